"""The nouns that travel: frozen dataclasses, one strict codec, one canonical encoding.

A module here holds one stage of the river: `worker` and `evidence` (prove), `verdict` and `policy` (appraise), `release`,
`receipt`, `job`; `digest`, `binding`, `envelope` and `codec` are what they are made of. Records know nothing of keys or I/O.
"""
