"""Tensors of a sealed artifact in torch: what safetensors' own loader gives, without a file in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256
from strongroom.engines.tensors import DTYPES, state_dict, torch_tensor
from strongroom.errors import FileUnreadable, UsageError
from strongroom.records.artifact import ELEMENT_BITS, ArtifactKind
from strongroom.sealed.open import OpenedArtifact, Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.seal import seal
from strongroom.sealed.view import Tensors
from strongroom.sealed.wrapping import unwrap, wrap_to

KINDS = {name: getattr(torch, word) for name, word in DTYPES.items() if hasattr(torch, word)}
WRITTEN = [name for name in KINDS if name not in {"F8_E8M0", "C64"}]
"""What this safetensors writes."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    weights = {name: torch.arange(24).reshape(6, 4).to(KINDS[name]) for name in WRITTEN}
    save_file({**weights, "large": torch.randn(1000, 700), "scalar": torch.tensor(3.5)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def opened(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedArtifact]:
    registry = DirectoryRegistry(tmp_path_factory.mktemp("sealed"))
    recipient, signer = ReleaseKey.generate(), generate_p256()
    seal(plain, registry, kind=ArtifactKind.MODEL, wrap=wrap_to([recipient.public]), signer=signer, segment_bytes=4096)
    opener = Opener(registry, "latest", signer_public=signer.public_key())
    with opener.open(unwrap(opener.header, recipient)) as artifact:
        yield artifact


def test_every_tensor_is_the_one_that_the_stock_loader_gives(plain: Path, opened: OpenedArtifact):
    expected, found = load_file(plain / "model.safetensors"), state_dict(Tensors(opened))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert (
            torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))
            if tensor.dim()
            else (found[name] == tensor)
        )


def test_the_rows_of_a_rank_are_those_of_the_whole(plain: Path, opened: OpenedArtifact):
    whole = load_file(plain / "model.safetensors")["large"]
    for rank in range(4):
        rows = (rank * 250, (rank + 1) * 250)
        assert torch.equal(torch_tensor(Tensors(opened), "large", rows), whole[slice(*rows)])


def test_a_module_loads_it(opened: OpenedArtifact):
    module = torch.nn.Linear(700, 1000, bias=False)
    module.load_state_dict({"weight": torch_tensor(Tensors(opened), "large")})
    assert module(torch.ones(700)).shape == (1000,)


def test_what_there_is_not_is_said(opened: OpenedArtifact, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FileUnreadable):
        torch_tensor(Tensors(opened), "absent")
    monkeypatch.delitem(DTYPES, "BF16")
    with pytest.raises(UsageError, match="BF16"):
        torch_tensor(Tensors(opened), "BF16")


def test_every_type_has_a_name_in_torch_or_is_less_than_a_byte():
    assert {name for name, bits in ELEMENT_BITS.items() if bits >= 8} == DTYPES.keys()
