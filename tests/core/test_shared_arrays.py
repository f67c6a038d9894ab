"""Arrays that processes share: one writes, all map; images and what is made of them are the same as in memory."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Semaphore
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from paretune.core import shared_arrays
from paretune.core.shared_arrays import cache_folder, derived, from_file
from paretune.data import sharing
from paretune.data.dataset import Data, load_data
from paretune.data.options import DataOptions
from paretune.data.sharing import share_images
from paretune.trainers.ann import Ann, AnnConfig


def saved(numbers: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, numbers)
    return file.getvalue()


SAVED = saved(np.arange(9.0))


@pytest.mark.parametrize(("free", "written"), [(144, False), (145, True)])
def test_a_file_leaves_the_disk_as_much_as_it_takes(
    free: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    path = tmp_path / "products-1111111111111111.npy"

    held = []

    def compute() -> np.ndarray:
        try:
            with shared_arrays.locked(path.with_suffix(".lock"), wait=False):
                held.append(False)
        except BlockingIOError:
            held.append(True)
        return np.arange(9.0)

    np.testing.assert_array_equal(from_file(path, compute, 72), np.arange(9.0))
    assert path.exists() == written
    assert held == [written], "processes that write nothing do not compute in turn"


def test_the_newest_files_stay_whether_one_is_written_or_read(tmp_path: Path) -> None:
    def others(age: float, *names: str) -> None:
        for place, name in enumerate(names):
            (tmp_path / f"{name}.npy").touch()
            os.utime(tmp_path / f"{name}.npy", times=(time.time() - age - place,) * 2)

    def left() -> list[str]:
        return sorted(path.stem for path in tmp_path.glob("*.npy"))

    others(5.0, "products-cccccccccccccccc", "products-bbbbbbbbbbbbbbbb", "products-aaaaaaaaaaaaaaaa", "images-aaaaaaaaaaaaaaaa")
    from_file(tmp_path / "products-1111111111111111.npy", lambda: np.arange(9.0), 72, others=2)
    assert left() == [
        "images-aaaaaaaaaaaaaaaa",
        "products-1111111111111111",
        "products-bbbbbbbbbbbbbbbb",
        "products-cccccccccccccccc",
    ]
    os.utime(tmp_path / "products-1111111111111111.npy", (0, 0))
    others(0.0, "products-eeeeeeeeeeeeeeee", "products-dddddddddddddddd")
    found = from_file(tmp_path / "products-1111111111111111.npy", lambda: pytest.fail("it was to be read"), 72, others=2)
    assert left() == [
        "images-aaaaaaaaaaaaaaaa",
        "products-1111111111111111",
        "products-dddddddddddddddd",
        "products-eeeeeeeeeeeeeeee",
    ]
    (tmp_path / "products-1111111111111111.npy").unlink()
    np.testing.assert_array_equal(found, np.arange(9.0), "who maps a removed file keeps it")


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    for name in (
        "products-1111111111111111.7-a.partial",
        "products-2222222222222222.7-b.partial",
        "products-3333333333333333.8-c.partial",
    ):
        (tmp_path / name).touch()
    with shared_arrays.locked(tmp_path / "products-3333333333333333.lock"):
        from_file(tmp_path / "products-1111111111111111.npy", lambda: np.arange(9.0), 72)
    assert [path.name for path in tmp_path.glob("*.partial")] == ["products-3333333333333333.8-c.partial"]


def test_an_agents_folder_keeps_nothing_that_nobody_has_used_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "paretune").mkdir()
    for name in ("products-1111111111111111.npy", "products-2222222222222222.npy"):
        (tmp_path / "paretune" / name).touch()
    os.utime(tmp_path / "paretune" / "products-1111111111111111.npy", (0, 0))
    assert [path.name for path in (cache_folder() or tmp_path).iterdir()] == ["products-2222222222222222.npy"]


def test_who_has_no_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cache_folder() is None


@pytest.mark.parametrize(
    "damaged",
    [
        b"half",
        b"",
        bytes(200),
        SAVED[:-30],
        SAVED + b"more",
        SAVED[:10] + b"{'descr': (" + SAVED[21:],
        saved(np.arange(18.0, dtype=np.float32)),
        saved(np.ones((3, 3))),
    ],
    ids=["short", "empty", "zeros", "cut", "longer", "head", "type", "shape"],
)
def test_a_file_that_is_damaged_or_holds_other_numbers_is_written_anew(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "products-1111111111111111.npy"
    path.write_bytes(damaged)
    np.testing.assert_array_equal(from_file(path, lambda: np.arange(9.0), 72, ((9,), np.dtype(float))), np.arange(9.0))
    assert path.read_bytes() == SAVED
    found = from_file(path, lambda: pytest.fail("it was to be read"), 72, ((9,), np.dtype(float)))
    np.testing.assert_array_equal(found, np.arange(9.0))


def test_files_that_nobody_has_used_for_a_day_are_removed(tmp_path: Path) -> None:
    for name in ("products-0000000000000000.npy", "products-ffffffffffffffff.npy", "other.npy"):
        (tmp_path / name).touch()
    for name in ("products-0000000000000000.npy", "other.npy"):
        os.utime(tmp_path / name, (0, 0))
    from_file(tmp_path / "products-1111111111111111.npy", lambda: np.arange(9.0), 72)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == [
        "other.npy",
        "products-1111111111111111.npy",
        "products-ffffffffffffffff.npy",
    ]


def test_two_that_write_the_same_file_do_not_touch_each_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a command that ends removes the folder, with its locks, while another's workers write."""
    path, begun, gone_on = tmp_path / "cache" / "products-1111111111111111.npy", Semaphore(0), {}

    def in_halves(file: Any, numbers: np.ndarray) -> None:
        file.write(SAVED[:100])
        file.flush()
        begun.release()
        assert gone_on[threading.current_thread()].wait(20)
        file.write(SAVED[100:])

    def begin(pool: ThreadPoolExecutor) -> tuple[Future[np.ndarray], Event]:
        may_go = Event()

        def write() -> np.ndarray:
            gone_on[threading.current_thread()] = may_go
            return from_file(path, lambda: np.arange(9.0), 72)

        result = pool.submit(write)
        assert begun.acquire(timeout=20)
        return result, may_go

    monkeypatch.setattr(np, "save", in_halves)
    with ThreadPoolExecutor(2) as pool:
        first, first_may_go = begin(pool)
        shutil.rmtree(path.parent)
        second, second_may_go = begin(pool)
        first_may_go.set()
        np.testing.assert_array_equal(first.result(), np.arange(9.0))
        assert not path.exists(), "what the second has half written"
        second_may_go.set()
        np.testing.assert_array_equal(second.result(), np.arange(9.0))
    assert path.read_bytes() == SAVED
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "products-1111111111111111.lock",
        "products-1111111111111111.npy",
    ]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, numbers: np.ndarray) -> None:
        file.write(b"some")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    np.testing.assert_array_equal(from_file(tmp_path / "products-1111111111111111.npy", lambda: np.arange(9.0), 72), np.arange(9.0))
    assert [file.name for file in tmp_path.iterdir()] == ["products-1111111111111111.lock"]


def _count_and_compute(path: Path, barrier: Any) -> None:
    def compute() -> np.ndarray:
        with (path.parent / "computed").open("a") as file:
            file.write("once\n")
        return np.arange(1000.0)

    barrier.wait()
    assert from_file(path, compute, 8000).sum() == 499_500


def test_one_of_several_processes_computes_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=_count_and_compute, args=(tmp_path / "products-1111111111111111.npy", barrier)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "computed").read_text() == "once\n"


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr(sharing, "IMAGES_FROM", 0)
    return load_data(DataOptions())


def test_shared_images_are_the_same_and_are_written_once(digits: Data, tmp_path: Path) -> None:
    first = share_images(digits, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(written) == 3
    second = share_images(digits, tmp_path)
    assert {path: path.stat().st_ino for path in tmp_path.glob("*.npy")}.keys() == written.keys()
    for data in (first, second):
        assert data.holdout is not None
        assert data.evaluated is data.holdout
        assert data.cache == tmp_path
        for part in ("train", "holdout", "test"):
            assert torch.equal(getattr(data, part).x, getattr(digits, part).x)
            assert getattr(data, part).y is getattr(digits, part).y


def test_curves_on_test_score_the_shared_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "IMAGES_FROM", 0)
    data = share_images(load_data(DataOptions(holdout=0.0, curves_on_test=True)), tmp_path)
    assert data.evaluated is data.test
    assert data.holdout is None


def test_few_images_stay_as_they_are(tmp_path: Path) -> None:
    digits = load_data(DataOptions())
    data = share_images(digits, tmp_path)
    assert data.train is digits.train
    assert data.evaluated is digits.evaluated
    assert list(tmp_path.iterdir()) == []


def test_what_is_made_of_shared_images_is_shared_and_of_others_is_not(digits: Data, tmp_path: Path) -> None:
    x = share_images(digits, tmp_path).train.x
    made = derived(x, "doubled", lambda: x * 2)
    assert torch.equal(made, digits.train.x * 2)
    again = share_images(digits, tmp_path).train.x
    assert torch.equal(derived(again, "doubled", lambda: pytest.fail("it was to be read")), made)
    count = len(list(tmp_path.glob("*.npy")))
    assert torch.equal(derived(digits.train.x, "doubled", lambda: digits.train.x * 2), made)
    assert len(list(tmp_path.glob("*.npy"))) == count
    assert torch.equal(derived(made, "and again", lambda: made + 1), made + 1)


@pytest.mark.parametrize("values", [{"hidden": [16]}, {"hidden": [], "n_conv": 1, "channels": 4}, {"hidden": [8], "augment": True}])
def test_a_model_learns_the_same_of_shared_images(digits: Data, tmp_path: Path, values: dict[str, Any]) -> None:
    config = AnnConfig(epochs=2, **values)
    alone, together = (
        [{**epoch.metrics, "seconds": 0.0} for epoch in Ann(config, device="cpu").fit_epochs(data)]
        for data in (digits, share_images(digits, tmp_path))
    )
    assert alone == together


def test_what_others_keep_in_a_shared_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    own = from_file(folder / f"products-{'1' * 16}.npy", lambda: np.arange(9.0), 72)
    assert len(own) == 9
    others = ["notes.txt", "images-2024.npy", "products-final.npy", "images-a.lock"]
    for name in others:
        (folder / name).write_text("mine")
        os.utime(folder / name, (0, 0))
    from_file(folder / f"products-{'2' * 16}.npy", lambda: np.arange(9.0), 72, others=0)
    shared_arrays.remove_shared(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(others)
    for name in others:
        (folder / name).unlink()
    shared_arrays.remove_shared(folder)
    assert not folder.exists()
