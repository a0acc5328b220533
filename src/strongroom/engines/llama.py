"""llama.cpp through `xllamacpp`: the one module that imports it, and only inside the confined child.

Knows: its parameters, what a request may ask, and how it reports errors. Does not know: frames, processes.
Nothing of a request outlives it: no prompt cache between requests (the time an answer takes would tell one user what another
asked), no cache in host memory, no slot files, no logs. With `cache_prompt = 1` a prefix is kept in its slot for the namespace that
the worker names (`steering`), and found by no other (`slots`). Adapters are applied to the requests that the worker names alone.
Not covered: adapters for embeddings; several models, and which tokens a text has, which the library tells over its own listener alone.
A request is stopped at its next token: while a long prompt is read, and in an answer that is not streamed, there is none; the
context's size bounds both.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import xllamacpp

from strongroom.engines import counting, forced, steering
from strongroom.engines.child import Rejected, problem
from strongroom.engines.slots import Slots
from strongroom.errors import UsageError

_NUMBERS = {
    "context": (2048, 64, 1 << 20),
    "threads": (0, 0, 1024),
    "slots": (1, 1, 64),
    "jinja": (0, 0, 1),
    "cache_prompt": (0, 0, 1),
    "embeddings": (0, 0, 1),
}
"""Settings that are numbers: default, least, most. `context` is in tokens for each slot; 0 `threads` = all that there are."""
_POOLING = {
    "": "UNSPECIFIED",
    "mean": "MEAN",
    "cls": "CLS",
    "last": "LAST",
}
"""How the embeddings of a text's tokens become one: as the model says, or by name for models that do not say."""
_TEXTS: Mapping[str, str | None] = {"name": None, "chat_template": "", "pooling": ""}
"""Settings that are text: the name under which the model is served, a built-in template's name if not the model's own, and how
embeddings are pooled."""

# fmt: off
_SAMPLING = frozenset({
    "frequency_penalty", "grammar", "json_schema", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "min_p", "n", "presence_penalty", "repeat_last_n", "repeat_penalty", "response_format",
    "seed", "stop", "stream", "stream_options", "temperature", "top_k", "top_logprobs", "top_p",
})
# fmt: on
_TALK = frozenset({"messages", "tools", "tool_choice", "parallel_tool_calls"})
_OPERATIONS = {
    "chat.completions": _SAMPLING | _TALK,
    "completions": _SAMPLING | {"prompt", "suffix"},
    "embeddings": frozenset({"input", "encoding_format"}),
    counting.OPERATION: counting.MEMBERS,
}
_IGNORED = frozenset({"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
"""What OpenAI's clients send for OpenAI's own bookkeeping."""
_LONGEST_NAME = 40
_BATCH = 512


class LlamaAdapter:
    """Implements `child.Adapter`."""

    def __init__(self) -> None:
        self._server: xllamacpp.Server | None = None
        self._embeddings, self._jinja, self._adapters, self._context = False, False, 0, 0
        self._slots: Slots | None = None

    def load(self, model: int, settings: Mapping[str, Any], scratch: str, adapters: Sequence[int] = ()) -> int:
        checked = check_settings(settings)
        self._embeddings, self._jinja = bool(checked["embeddings"]), bool(checked["jinja"])
        self._adapters = len(adapters)
        self._context = int(checked["context"])
        if checked["cache_prompt"]:
            self._slots = Slots(checked["slots"])
        self._server = xllamacpp.Server(parameters(model, checked, scratch, adapters))
        return int(checked["slots"])

    def run(self, operation: str, request: Mapping[str, Any], emit: Callable[[str], bool]) -> None:
        server = self._server
        if server is None:
            raise Rejected(problem(503, "no model is loaded", "server_error"))
        steered, request = steering.take(request)
        checked = check_request(operation, request)
        if operation == "embeddings":
            emit(self._embed(server, checked))
            return
        if operation == counting.OPERATION:
            operation, checked = counting.reading(checked)
            emit = self._counting(emit)
        if operation == "chat.completions" and forced.is_forced(checked):
            checked, emit = _shaped(forced.constrained, checked), forced.CallsOut(emit)
        elif operation == "chat.completions" and not self._jinja:  # else the model's own template tells it of tools
            checked = _shaped(forced.without_tools, checked)
        with self._place(steered, checked) as place:
            self._say(server, operation, json.dumps({**checked, **place, **self._adapted(steered)}), emit)

    def _counting(self, emit: Callable[[str], bool]) -> Callable[[str], bool]:
        """`emit`, told the count in an answer and not the answer."""
        return lambda text: emit(json.dumps(counting.counted(text, longest=self._context)))

    @contextlib.contextmanager
    def _place(self, steered: steering.Steering, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The members that say in which slot, and whether what lies there may be used."""
        if self._slots is None:
            yield {"cache_prompt": False}
            return
        if request.get("n", 1) != 1:  # each further answer takes a slot of the library's choice, whoever's that is
            raise Rejected(problem(400, "with a cache, n must be 1"))
        with self._slots.held(steered.cache_salt) as (slot, own):
            yield {"id_slot": slot, "cache_prompt": own}

    def _adapted(self, steered: steering.Steering) -> dict[str, Any]:
        """The members that say how much of each adapter: all of one's own, nothing of the others."""
        if steered.adapter is not None and steered.adapter >= self._adapters:
            raise Rejected(problem(500, "there is no such adapter", "server_error"))
        if not self._adapters:
            return {}
        return {"lora": [{"id": at, "scale": float(at == steered.adapter)} for at in range(self._adapters)]}

    def _say(self, server: xllamacpp.Server, operation: str, asked: str, emit: Callable[[str], bool]) -> None:
        """Raises `Rejected` for whatever the library says of a request but an answer."""
        failures: list[str] = []
        said = False

        def deliver(text: str) -> bool:
            nonlocal said
            said = True
            if text.startswith('{"error":'):
                failures.append(text)
                return True
            return emit(text)

        try:
            if operation == "completions":
                server.handle_completions(asked, deliver)
            else:
                server.handle_chat_completions(asked, deliver)
        except (ValueError, RuntimeError) as error:  # how the library's own checks of a request arrive
            raise Rejected(problem(400, str(error))) from None
        if failures:
            raise Rejected(failures[0])
        if not said:  # perhaps it never came to a slot
            raise Rejected(problem(500, "the engine said nothing", "server_error"))

    def _embed(self, server: xllamacpp.Server, request: Mapping[str, Any]) -> str:
        """One answer for all texts. An engine that was not started for it is not asked: what it gives then means nothing."""
        if not self._embeddings:
            raise Rejected(problem(501, "this worker was not started for embeddings", "not_supported_error"))
        try:
            answer = str(server.handle_embeddings(json.dumps(request)))
        except (ValueError, RuntimeError) as error:
            raise Rejected(problem(400, str(error))) from None
        if answer.startswith('{"error":'):
            raise Rejected(answer)
        return answer


def _shaped(by: Callable[[Mapping[str, Any]], dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    """What `forced` makes of a request. Raises `Rejected`."""
    try:
        return by(request)
    except forced.NotForced as error:
        raise Rejected(problem(400, str(error))) from None


def _adapter(descriptor: int) -> xllamacpp.CommonAdapterLoraInfo:
    """An adapter that is loaded and applied to nothing unless a request names it."""
    told = xllamacpp.CommonAdapterLoraInfo()
    told.path, told.scale = f"/proc/self/fd/{descriptor}", 0.0
    return told


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings with their defaults. Raises `UsageError` for one that is unknown, missing or out of bounds."""
    unknown = sorted(set(settings) - set(_NUMBERS) - set(_TEXTS))
    if unknown:
        raise UsageError(f"unknown settings of the engine: {', '.join(unknown)[:80]}")
    checked: dict[str, Any] = {}
    for name, (default, least, most) in _NUMBERS.items():
        number = settings.get(name, default)
        if type(number) is not int or not least <= number <= most:
            raise UsageError(f"{name} must be a whole number from {least} to {most}")
        checked[name] = number
    for name, text in _TEXTS.items():
        checked[name] = settings.get(name, text)
        if not isinstance(checked[name], str):
            raise UsageError(f"{name} must be given, as text")
    if checked["pooling"] not in _POOLING:
        raise UsageError(f"pooling must be one of: {', '.join(filter(None, _POOLING))}")
    if checked["cache_prompt"] and checked["embeddings"]:
        raise UsageError("an engine with a cache makes no embeddings: they take slots of the library's choice")
    return checked


def check_request(operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without what is ignored. Raises `Rejected` for an operation or a member that is not in the list.

    A list and not a blocklist: some members of the library's own steer slots and caches, where one user meets another.
    """
    known = _OPERATIONS.get(operation)
    if known is None:
        raise Rejected(problem(404, "this engine has no such operation"))
    unknown = sorted(set(request) - known - _IGNORED)
    if unknown:
        raise Rejected(problem(400, f"the member {unknown[0][:_LONGEST_NAME]!r} is not supported"))
    return {name: value for name, value in request.items() if name in known}


def parameters(
    model: int, settings: Mapping[str, Any], scratch: str, adapters: Sequence[int] = ()
) -> xllamacpp.CommonParams:
    """The library's parameters for checked `settings`; `scratch` is a folder for its socket."""
    threads = settings["threads"] or len(os.sched_getaffinity(0))
    told = xllamacpp.CommonParams()
    told.model.path = f"/proc/self/fd/{model}"
    told.lora_adapters = [_adapter(descriptor) for descriptor in adapters]
    told.model_alias = {settings["name"]}
    told.n_ctx = settings["context"] * settings["slots"]
    told.n_parallel = settings["slots"]
    told.cpuparams.n_threads = threads
    told.cpuparams_batch.n_threads = threads
    told.use_jinja = bool(settings["jinja"])
    told.chat_template = settings["chat_template"]
    told.embedding = bool(settings["embeddings"])
    if told.embedding:
        told.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{_POOLING[settings['pooling']]}")
        told.n_batch = told.n_ubatch = max(_BATCH, settings["context"])  # a text is pooled in one piece or not at all
    told.offline = True
    # Its own server insists on a listener: a socket in the child's /tmp, under a key that nobody knows.
    told.hostnames = [f"{scratch}/engine.sock"]
    told.api_keys = [secrets.token_hex(32)]
    told.n_threads_http = 1
    told.ui = told.endpoint_slots = told.endpoint_props = told.endpoint_metrics = False
    # Nothing of a request stays: no cache, no files, no words.
    told.cache_prompt = bool(settings["cache_prompt"])
    told.cache_ram_mib = 0
    told.n_ctx_checkpoints = 0
    told.slot_save_path = told.path_prompt_cache = told.path_prompts_log_dir = ""
    told.verbosity = -1
    return told
