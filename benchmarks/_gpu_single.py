"""`make gpu`: the simple CNN in each precision, the SVM on 60,000 images, an ANN and an SVM retrained; the CPU beside the GPU."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._gpu_pictures import N_TEST, N_TRAIN, pictures
from benchmarks._gpu_session import CPU, Session, equal_share
from paretune.core.devices import PRECISIONS, numerics
from paretune.data.dataset import Data
from paretune.kernel_svm import batched_solver
from paretune.models.evaluation import evaluate
from paretune.models.saved_models import load, save
from paretune.networks.cpu_convolutions import multiply_adds
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.svm import Svm, SvmConfig

# What the preset of this name says, at benchmarks/cnn_epoch.py's batch; YAML may be missing where this runs.
SIMPLE_CNN: dict[str, Any] = {
    "conv": [{"channels": 32}, {"channels": 32, "pool": 2}],
    "hidden": [128],
    "dropout": [{"after": "conv_2", "rate": 0.25}, {"after": "hidden_1", "rate": 0.5}],
    "batch_size": 256,
}
RETRAINED_ANN = {"hidden": [256, 128], "dropout": 0.2, "batch_size": 128, "epochs": 10}
TIMED_EPOCHS, PRODUCTS = 2, 10
GROWTH = 2.0  # an SVM's seconds on the CPU grow with this power of the images, at most
SAFETY = 1.2  # a forecast times this must fit into the time left


# The simple CNN


def cnn(session: Session) -> None:
    """Time an epoch in each precision, beside the largest rate of operations that a product of matrices reaches."""
    data = pictures(session.size(N_TRAIN, 512), session.size(N_TEST, 500))
    labels: dict[str, Any] = {}
    for precision in PRECISIONS:
        session.forget()
        peak = _peak(session, precision)
        model, seconds = _cnn_epochs(session, precision, data)
        row = f"simple CNN, an epoch, {precision}"
        # 2 operations a multiply-add; the way back computes two gradients, each as large as the way forward
        operations = 2 * 3 * multiply_adds(model._net, data.input_shape) * len(data.train)
        labels[precision] = model.predict(data.test.x)
        figures = {
            "operations a second": operations / seconds,
            "operations a second of a product of matrices": peak,
            "fraction of that peak": operations / seconds / peak,
            f"test accuracy after {1 + TIMED_EPOCHS} epochs": equal_share(labels[precision], data.test.y.numpy()),
            "labels equal to those of fp32": equal_share(labels[precision], labels["fp32"]),
        }
        session.write(row, gpu_seconds=seconds, figures=figures)
    _cnn_on_the_cpu(session, len(data.train))


def _peak(session: Session, precision: str) -> float:
    """Return the operations a second of a product of two large square matrices on the GPU."""
    side = session.size(8192, 256)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=session.device).to(kind) for _ in range(2))
    result = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=result)

    with numerics("tf32" if precision == "tf32" else "fp32", session.device):
        multiply()
        return 2 * side**3 * PRODUCTS / min(session.seconds(multiply) for _ in range(2))


def _cnn_epochs(session: Session, precision: str, data: Data) -> tuple[Any, float]:
    """Train; return the model and the seconds of an epoch after the first one, which starts the libraries."""
    config = AnnConfig.from_dict({**SIMPLE_CNN, "epochs": 1 + TIMED_EPOCHS})
    model = Ann(config, device=str(session.device), precision=precision)
    epochs = model.fit_epochs(data)
    next(epochs)
    return model, session.seconds(lambda: list(epochs)) / TIMED_EPOCHS


def _cnn_on_the_cpu(session: Session, n_train: int) -> None:
    """Time an epoch of a tenth of the images in fp32, and in bf16 where the CPU has it."""
    small = pictures(max(n_train // 10, 256), 100)
    for precision, rows in (("fp32", ("fp32", "tf32")), ("bf16", ("bf16",))):
        if precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
            continue
        model = Ann(AnnConfig.from_dict({**SIMPLE_CNN, "epochs": 2}), device="cpu", precision=precision)
        epochs = model.fit_epochs(small)
        next(epochs)
        seconds = session.seconds(functools.partial(list, epochs)) * n_train / len(small.train)
        for row in rows:
            notes = [f"CPU: in {precision}, extrapolated from {len(small.train):,} images"]
            session.write(f"simple CNN, an epoch, {row}", cpu_seconds=seconds, cpu_notes=notes)


# The SVM


def svm(session: Session) -> None:
    """Fit with rbf kernels on a quarter of the images and on all, on both devices."""
    _fit_svms(session, "SVM rbf", SvmConfig(C=10.0))


def retrain_svm(session: Session) -> None:
    """Fit as analysis.retrain does, with probabilities, on both devices; save the GPU's model and load it on the CPU."""
    machine, data = _fit_svms(session, "SVM rbf with probabilities, retrained", SvmConfig(C=10.0, probability=True))
    _save_and_load(session, f"SVM rbf with probabilities, retrained, {len(data.train):,} images", machine, data)


def _fit_svms(session: Session, name: str, config: SvmConfig) -> tuple[Svm, Data]:
    """Fit a quarter of the images on both devices, then all of them; return the GPU's machine of all.

    The GPU fits all of them whatever a forecast says, and the bound ends it; the CPU where it is forecast to be in time.
    """
    small, full = session.size(N_TRAIN // 4, 400), session.size(N_TRAIN, 800)
    batched_solver.FROM = 0  # few images as well are to be the GPU's
    for device in (session.device, CPU):  # their libraries start
        _fitted(session, config, device, _svm_data(session, session.size(1000, 200)))
    machines: dict[str, Svm] = {}
    seconds: dict[tuple[str, int], float] = {}
    for n, side in ((small, "gpu"), (small, "cpu"), (full, "gpu"), (full, "cpu")):
        row, data = f"{name}, {n:,} images", _svm_data(session, n)
        forecast = seconds.get(("cpu", small), 0.0) * (n / small) ** GROWTH
        if n == full:
            note = f"CPU: not fitted, but extrapolated from {small:,} images by the square of their number"
            session.write(row, cpu_seconds=forecast, cpu_notes=[note])
        if (n, side) == (full, "cpu") and forecast * SAFETY > session.left():
            break
        session.forget()
        machines[side], took = _fitted(session, config, session.device if side == "gpu" else CPU, data)
        seconds[side, n] = took
        figures = _svm_figures(session, machines, side, data)
        session.write(row, **{f"{side}_seconds": took, f"{side}_notes": []}, figures=figures)
    return machines["gpu"], data


def _svm_data(session: Session, n: int) -> Data:
    return pictures(n, session.size(N_TEST, 500))


def _fitted(session: Session, config: SvmConfig, device: torch.device, data: Data) -> tuple[Svm, float]:
    machine = Svm(config, device=str(device))
    return machine, session.seconds(lambda: machine.fit(data))


def _svm_figures(session: Session, machines: dict[str, Svm], side: str, data: Data) -> dict[str, float]:
    """Score the machine that a side has just fitted; the CPU's is the second one, which is compared with the GPU's."""
    machine = machines[side]
    labels: list[Any] = []
    predicting = session.seconds(lambda: labels.append(machine.predict(data.test.x)))
    figures = {
        f"test accuracy, {side.upper()}": equal_share(labels[0], data.test.y.numpy()),
        f"support vectors, {side.upper()}": len(machine.state()["support_vectors"]),
        f"seconds to predict {len(data.test):,}, {side.upper()}": predicting,
    }
    if side == "cpu":
        figures["labels equal on both"] = equal_share(labels[0], machines["gpu"].predict(data.test.x))
    return figures


# Retraining


def retrain_ann(session: Session) -> None:
    """Train on all images as analysis.retrain does, on both devices; save the GPU's model and load it on the CPU."""
    data = pictures(session.size(N_TRAIN, 2000), session.size(N_TEST, 500))
    config = AnnConfig.from_dict(RETRAINED_ANN)
    row = f"ANN 784-256-128-10, retrained, {len(data.train):,} images, {config.epochs} epochs"
    Ann(config.replace(epochs=1), device=str(session.device)).fit(pictures(512, 100))
    session.forget()
    model = Ann(config, device=str(session.device))
    session.write(row, gpu_seconds=session.seconds(lambda: model.fit(data)))
    scores = evaluate(model, data.test, data).metrics
    session.write(row, figures={"test accuracy, GPU": scores["accuracy"], "test loss, GPU": scores["loss"]})
    beside = Ann(config, device="cpu")
    begin, done, notes = time.perf_counter(), 0, []
    for epoch in beside.fit_from_checkpoint(data, None):
        done = epoch.number
        if (time.perf_counter() - begin) / done > 0.8 * session.left():
            notes = [f"CPU: extrapolated from {done} epochs"]
            break
    scores = evaluate(beside, data.test, data).metrics
    figures = {"test accuracy, CPU": scores["accuracy"], "test loss, CPU": scores["loss"]}
    session.write(row, cpu_seconds=(time.perf_counter() - begin) / done * config.epochs, cpu_notes=notes, figures=figures)
    _save_and_load(session, row, model, data)


def _save_and_load(session: Session, row: str, model: Any, data: Data) -> None:
    """Write the GPU's model, read it on the CPU, and compare labels and probabilities."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model", metrics={})
        loaded: Any = load(Path(folder) / "model", device="cpu")
    ours, theirs = (side.predict_with_proba(data.test.x) for side in (model, loaded))
    figures = {
        "labels equal after saving, on the CPU": equal_share(ours[0], theirs[0]),
        "probabilities after saving, largest difference": float(abs(ours[1] - theirs[1]).max()),
    }
    session.write(row, figures=figures)
