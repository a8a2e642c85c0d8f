from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geovlm.stores import LanceStore
from geovlm.testing import VectorStoreContract

if TYPE_CHECKING:
    from pathlib import Path


class TestContract(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder, self.made = tmp_path, 0

    def make_store(self) -> LanceStore:
        self.made += 1
        return LanceStore(self.folder / f"{self.made}.lance")
