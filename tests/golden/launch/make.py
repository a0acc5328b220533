"""Make the golden arguments and domains anew: `PYTHONPATH=tests/shared python tests/golden/launch/make.py`. Read the difference."""

from pathlib import Path

from launching import SPECS, place_for

from strongroom.launch.libvirt import domain
from strongroom.launch.qemu import arguments

HERE = Path(__file__).parent


def rendered() -> dict[str, str]:
    """Every golden file by its name."""
    made = {}
    for name, spec in SPECS.items():
        place = place_for(spec)
        made[f"{name}.args"] = "\n".join(arguments(spec, place)) + "\n"
        made[f"{name}.xml"] = domain(spec, place)
        if spec.tee == "tdx":
            made[f"{name}.canonical.xml"] = domain(spec, place, dialect="canonical")
    return made


if __name__ == "__main__":
    for name, text in rendered().items():
        (HERE / name).write_text(text)
