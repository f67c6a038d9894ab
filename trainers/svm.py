"""The support vector machine: fitted by scikit-learn (libsvm), predicting by matrix products.

Fits of thousands of images go by the images' inner products (`kernel_svm.gram`), which trials share; those of tens of thousands on
a GPU by `kernel_svm.batched_solver` or `kernel_svm.cuml`. Where none of them fits into memory, large fits go to
scikit-learn-intelex in float32 where it is installed. Probabilities are calibrated out of fold (Platt).
"""

from __future__ import annotations

import sys
from pathlib import Path

from paretune.core.metrics import confusion_matrix, named, scores
from paretune.kernel_svm import cuml
from paretune.kernel_svm.decisions import PairwiseMachine, calibrated_probabilities, winners
from paretune.kernel_svm.gram import Prepared, gram_of
from paretune.kernel_svm.pair_solver import evaluated_decisions, kernel_matrix, laid_out, pairs_of, solve, training_decisions

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # `wandb agent` starts this file from any folder

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from paretune.core.config import ActiveWhen
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.kernel_svm.kernels import Kernel
from paretune.models.contract import Classifier, ClassifierConfig, ModelConfig

if TYPE_CHECKING:
    from torch import nn

    from paretune.data.dataset import Data
    from paretune.data.images import Samples
    from paretune.kernel_svm.decisions import PairwiseMachine
    from paretune.kernel_svm.gram import Gram
    from paretune.kernel_svm.pair_solver import Solution

INTELEX_FROM = 20_000  # training images from which scikit-learn-intelex is the faster solver (measured, docs/decisions.md)
CALIBRATION_ROWS = 10_000
LEARNT = ("gamma", "classes", "support_vectors", "dual_coef", "intercept", "n_support")  # in every saved state


NOT_LINEAR = ActiveWhen(lambda config: config.kernel != "linear")


class SvmConfig(ClassifierConfig):
    """Kernel, penalty and what is done to the pixels before."""

    seed: Annotated[int, ActiveWhen(lambda config: config.pca is not None or config.probability)] = Field(
        0, ge=0, lt=2**63, description="seed of the principal components and of the choice of images to calibrate on"
    )
    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = Field("rbf", description="similarity of two images")
    C: float = Field(1.0, gt=0, description="penalty of a margin violation; larger fits the training images more closely")
    gamma: Annotated[Annotated[float, Field(gt=0)] | Literal["scale", "auto"], NOT_LINEAR] = Field(
        "scale",
        description="width of rbf, poly and sigmoid: a number, scale (1 / (n_features * variance)) or auto (1 / n_features)",
    )
    gamma_factor: Annotated[float, NOT_LINEAR] = Field(
        1.0, gt=0, description="multiplies gamma: with scale, one range suits every data set"
    )
    degree: Annotated[int, ActiveWhen(lambda config: config.kernel == "poly")] = Field(
        3, ge=1, le=20, description="of the poly kernel"
    )
    coef0: Annotated[float, ActiveWhen(lambda config: config.kernel in {"poly", "sigmoid"})] = Field(
        0.0, description="constant term of poly and sigmoid"
    )
    tolerance: float = Field(1e-3, gt=0, description="when the solver stops")
    scaling: Literal["none", "standard"] = Field("none", description="standard: each pixel to mean 0 and deviation 1 before")
    pca: int | None = Field(None, gt=0, description="keep this many principal components of the pixels; None keeps the pixels")
    probability: bool = Field(False, description="calibrate probabilities (5-fold), which gives a log-loss as well; slow")

    @model_validator(mode="after")
    def _weights_are_penalties(self) -> SvmConfig:
        if isinstance(self.class_weight, dict) and any(weight <= 0 for weight in self.class_weight.values()):
            raise ValueError(f"class_weight of an svm must be above 0 for every class. Got {self.class_weight!r}.")
        return self


class Svm(Classifier):
    """C-support vector classification, one against one."""

    name: ClassVar[str] = "svm"
    Config: ClassVar[type[SvmConfig]] = SvmConfig

    def __init__(self, config: ModelConfig | None = None, *, device: str = "auto", precision: str = "fp32") -> None:
        super().__init__(config, device=device, precision=precision)
        self._state: dict[str, np.ndarray] = {}
        self._machine: PairwiseMachine | None = None

    @classmethod
    def metric_names(cls, config: ModelConfig) -> list[str]:
        names = super().metric_names(config)
        return names if getattr(config, "probability", False) else [name for name in names if not name.endswith("_loss")]

    def fit_epochs(self, data: Data) -> Iterator[Epoch]:
        """Fit and score; `seconds` is without the inner products that trials share.

        Whichever trial comes first computes them (and the preparation of the images), and its number would say so. Products
        that are computed anew for each trial (`paretune.kernel_svm.gram.PixelGram`) are in its `seconds`.
        """
        self.start(data)
        begin = time.perf_counter()
        y, weights = data.train.y.numpy(force=True), self.class_weights(data)
        at_once = self._fit_at_once(data, y, weights)
        gram = None
        if at_once is None:
            gram = self._gram(data)
            begin = time.perf_counter()
        if at_once is not None:
            metrics = self._scores(data.train, data, "train", at_once)
        elif gram is None:
            self._fit(_flat(data.train.x), y, weights)
            metrics = self._scores(data.train, data, "train", self.decisions(data.train.x))
        else:
            solution = self._solve(gram, y, weights)
            metrics = self._scores(data.train, data, "train", training_decisions(gram, self._kernel(), solution))
        seconds = time.perf_counter() - begin
        if data.evaluated is not None:
            decisions = self.decisions(data.evaluated.x) if gram is None else evaluated_decisions(gram, self._kernel(), solution)
            metrics.update(self._scores(data.evaluated, data, "test", decisions))
        yield Epoch(1, {**metrics, "seconds": seconds, "n_parameters": float(self.n_parameters)}, last=True)

    def _gram(self, data: Data) -> Gram | None:
        """Return the inner products to fit on, None where the ordinary way is the better or the exacter one."""
        if not self.is_as_shipped():
            return None

        def prepare() -> Prepared:
            self._state.clear()
            train = self._prepared(_flat(data.train.x), fit=True)
            evaluated = None if data.evaluated is None else self._prepared(_flat(data.evaluated.x))
            return Prepared(train, evaluated, dict(self._state))

        config = self.config
        name = f"scaling {config.scaling}, pca {config.pca}" + ("" if config.pca is None else f", seed {config.seed}")
        n_calibrated = min(len(data.train), CALIBRATION_ROWS) if config.probability else 0
        as_they_are = config.scaling == "none" and config.pca is None
        gram = gram_of(data, name, prepare, self.device, as_they_are=as_they_are, n_calibrated=n_calibrated)
        if gram is None:
            return None
        self._state = {**gram.images.learnt, "gamma": np.array(self._gamma(gram.images.train.shape[1], gram.variance))}
        return gram if self._kernel().suits(gram.largest_norm, gram.precision) else None

    def _kernel(self) -> Kernel:
        config = self.config
        return Kernel(config.kernel, float(self._state["gamma"]), config.degree, config.coef0)

    def _solve(self, gram: Gram, y: np.ndarray, weights: list[float] | None) -> Solution:
        """Fit on inner products; `_gram` has left what the preparation has learnt."""
        config = self.config
        solution = solve(gram, self._kernel(), penalty=config.C, tolerance=config.tolerance, weights=weights)
        self._keep(solution, gram.classes, gram.images.train[gram.order[solution.support]].astype(np.float64))
        if config.probability:
            rows = self._calibration_rows(y)
            self._calibrate(self._svc(weights, kernel="precomputed"), kernel_matrix(gram, self._kernel(), rows), y[rows])
        return solution

    def _keep(self, solution: Solution, classes: np.ndarray, support_vectors: np.ndarray) -> None:
        self._machine = None
        self._state |= {
            "classes": classes.astype(np.int64),
            "support_vectors": support_vectors,
            "dual_coef": solution.dual_coef,
            "intercept": solution.intercept,
            "n_support": solution.n_support.astype(np.int64),
        }

    def _fit_at_once(self, data: Data, y: np.ndarray, weights: list[float] | None) -> np.ndarray | None:
        """Fit on a GPU and return the decisions (n_train, n_pairs) of the training images; None where another way is the better."""
        from paretune.kernel_svm import batched_solver

        if not self.is_as_shipped():
            return None
        config, (classes, counts) = self.config, np.unique(y, return_counts=True)
        batched = batched_solver.suits(len(y), config.kernel, self.device)
        if len(classes) < 2 or not (batched or (cuml.suits(len(y), self.device) and not config.probability)):
            return None
        self._state = {}
        x = self._prepared(_flat(data.train.x), fit=True)
        self._state["gamma"] = np.array(self._gamma(x.shape[1], float(x.var())))
        if not self._kernel().suits(float(np.square(x).sum(axis=1).max()), np.dtype(np.float32)):
            return None
        order, ends, pairs = np.argsort(y, kind="stable"), np.concatenate([[0], np.cumsum(counts)]), pairs_of(len(classes))
        penalties = [config.C * (1.0 if weights is None else weights[label]) for label in classes]
        if not batched:
            found = cuml.solve_pairs(x[order], ends, pairs, self._kernel(), penalties, config.tolerance)
            solution = laid_out(ends, pairs, found)
            self._keep(solution, classes, x[order[solution.support]])
            return self.decisions(data.train.x)
        values = batched_solver.kernel_on(self.device, x[order], self._kernel())
        solution = laid_out(ends, pairs, batched_solver.solve_pairs(values, ends, pairs, penalties, config.tolerance))
        self._keep(solution, classes, x[order[solution.support]])
        places = np.argsort(order)
        if config.probability:
            rows = self._calibration_rows(y)
            some = places[rows]
            self._calibrate(self._svc(weights, kernel="precomputed"), values[some][:, some].cpu().double().numpy(), y[rows])
        return batched_solver.decisions(values, solution)[places]

    def _fit(self, x: np.ndarray, y: np.ndarray, weights: list[float] | None) -> None:
        config, state = self.config, self._state
        state.clear()
        self._machine = None
        x = self._prepared(x, fit=True)
        state["gamma"] = np.array(self._gamma(x.shape[1], float(x.var())))
        machine = self._svc(weights, large=len(x) >= INTELEX_FROM, kernel=config.kernel)
        machine.fit(x.astype(np.float32) if len(x) >= INTELEX_FROM else x, y)
        state["classes"] = np.asarray(machine.classes_, dtype=np.int64)
        state["support_vectors"] = np.asarray(machine.support_vectors_, dtype=np.float64)
        state["dual_coef"] = np.asarray(machine.dual_coef_, dtype=np.float64)
        state["intercept"] = np.atleast_1d(np.asarray(machine.intercept_, dtype=np.float64))
        state["n_support"] = np.asarray(machine.n_support_, dtype=np.int64)
        if config.probability:
            rows = self._calibration_rows(y)
            self._calibrate(machine, x[rows], y[rows])

    def _svc(self, weights: list[float] | None, *, large: bool = False, kernel: str) -> Any:
        config = self.config
        return _solver(large)(
            C=config.C,
            kernel=kernel,
            gamma=float(self._state["gamma"]),
            degree=config.degree,
            coef0=config.coef0,
            tol=config.tolerance,
            class_weight=None if weights is None else dict(enumerate(weights)),
            cache_size=1000,
        )

    def _calibration_rows(self, y: np.ndarray) -> np.ndarray:
        """Return the training images to calibrate on: at most CALIBRATION_ROWS, with the classes in proportion."""
        from sklearn.model_selection import train_test_split

        rows = np.arange(len(y))
        if len(y) <= CALIBRATION_ROWS:
            return rows
        return train_test_split(rows, train_size=CALIBRATION_ROWS, stratify=y, random_state=self.config.seed)[0]

    def _calibrate(self, machine: Any, x: np.ndarray, y: np.ndarray) -> None:
        """Fit a sigmoid per class on decisions for images that the deciding machine was not trained on.

        Args:
            x: images (n_samples, n_features), or for a machine on a precomputed kernel its values (n_samples, n_samples).
        """
        from sklearn.base import clone
        from sklearn.calibration import CalibratedClassifierCV

        smallest = int(np.bincount(y)[np.unique(y)].min())
        if smallest < 2:
            raise UsageError("probability=True needs at least 2 training images of every class: add images or set it to False.")
        calibrated = CalibratedClassifierCV(clone(machine), ensemble=False, method="sigmoid", cv=min(5, smallest)).fit(x, y)
        sigmoids = calibrated.calibrated_classifiers_[0].calibrators
        self._state["calibration"] = np.array([[sigmoid.a_, sigmoid.b_] for sigmoid in sigmoids])

    def _prepared(self, x: np.ndarray, *, fit: bool = False) -> np.ndarray:
        """Scale and project flat images (n_samples, n_pixels) as the configuration says."""
        state = self._state
        if self.config.scaling == "standard":
            if fit:
                spread = x.std(axis=0)
                state["scaling.mean"], state["scaling.spread"] = x.mean(axis=0), np.where(spread > 0, spread, 1.0)
            x = (x - state["scaling.mean"]) / state["scaling.spread"]
        if self.config.pca is not None:
            if fit:
                from sklearn.decomposition import PCA

                most = min(x.shape)
                if self.config.pca > most:
                    raise UsageError(
                        f"pca must be at most {most} with {x.shape[0]} images of {x.shape[1]} pixels. Got {self.config.pca}."
                    )
                pca = PCA(self.config.pca, random_state=self.config.seed).fit(x)
                state["pca.mean"], state["pca.components"] = pca.mean_, pca.components_
            x = (x - state["pca.mean"]) @ state["pca.components"].T
        return x

    def _gamma(self, n_features: int, variance: float) -> float:
        gamma, factor = self.config.gamma, self.config.gamma_factor
        if gamma == "scale":
            gamma = 1.0 / (n_features * variance) if variance > 0 else 1.0
        return float(factor / n_features if gamma == "auto" else factor * gamma)

    def decisions(self, x: Any) -> np.ndarray:
        """Return the pairwise decisions (n_samples, n_classes * (n_classes - 1) / 2); above 0 votes for the first class."""
        return self._laid_out().decisions(self._prepared(_flat(x)))

    def _laid_out(self) -> PairwiseMachine:
        """Return the machine that decides, laid out at the first use after a fit or load."""
        if self._machine is None:
            state = self._state
            self._machine = PairwiseMachine(
                state["support_vectors"],
                state["dual_coef"],
                state["intercept"],
                state["n_support"],
                kernel=self._kernel(),
                device=self.device,
            )
        return self._machine

    def layers(self) -> list[str]:
        return ["input", "decisions"]

    def activations(self, x: Any, layer: str) -> np.ndarray:
        return self.decisions(x).astype(np.float32) if layer == "decisions" else super().activations(x, layer)

    def _scores(self, samples: Samples, data: Data, part: str, decisions: np.ndarray) -> dict[str, float]:
        import torch

        labels, loss = self._labels(decisions), self._loss(decisions, samples.y)
        confusion = confusion_matrix(samples.y.cpu(), torch.from_numpy(labels), len(self.class_names)).numpy()
        losses = {} if loss is None else {"loss": loss}
        return named({**losses, **scores(confusion, data.average, data.positive)}, part)

    def predict_with_loss(self, x: Any, y: Any) -> tuple[np.ndarray, float | None]:
        decisions = self.decisions(x)
        return self._labels(decisions), self._loss(decisions, y)

    def _loss(self, decisions: np.ndarray, y: Any) -> float | None:
        if "calibration" not in self._state:
            return None
        true = np.asarray(y.cpu() if hasattr(y, "cpu") else y)
        likelihood = self._probabilities(decisions)[np.arange(len(true)), true]
        return float(-np.log(np.clip(likelihood, np.finfo(np.float64).eps, 1.0)).mean())

    def _probabilities(self, decisions: np.ndarray) -> np.ndarray:
        classes = self._state["classes"]
        result = np.zeros((len(decisions), max(len(self.class_names), int(classes.max()) + 1)))
        result[:, classes] = calibrated_probabilities(decisions, len(classes), self._state["calibration"])
        return result

    def predict_proba(self, x: Any) -> np.ndarray:
        if "calibration" not in self._state:
            raise UsageError("this svm was trained without probabilities: train it with --probability=True to have them.")
        return self._probabilities(self.decisions(x))

    def predict(self, x: Any) -> np.ndarray:
        return self._labels(self.decisions(x))

    def predict_with_proba(self, x: Any) -> tuple[np.ndarray, np.ndarray | None]:
        decisions = self.decisions(x)
        return self._labels(decisions), self._probabilities(decisions) if "calibration" in self._state else None

    def _labels(self, decisions: np.ndarray) -> np.ndarray:
        return self._state["classes"][winners(decisions, len(self._state["classes"]))]

    def inference_module(self) -> nn.Module:
        from paretune.kernel_svm.torch_module import SvmInference

        if "calibration" not in self._state:
            raise UsageError("this svm was trained without probabilities: train it with --probability=True to export it.")
        config = self.config
        projected = config.pca is not None
        return SvmInference(
            self._state, self._kernel(), len(self.class_names), scaled=config.scaling == "standard", projected=projected
        )

    def state(self) -> dict[str, np.ndarray]:
        return dict(self._state)

    def parameter_names(self) -> set[str]:
        return set(self._state)

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        missing = [name for name in LEARNT if name not in state]
        if missing:
            raise ValueError(f"its weights hold no {missing[0]}")
        self._machine = None
        self._state = {name: np.asarray(value) for name, value in state.items()}


def _flat(x: Any) -> np.ndarray:
    """Return images as float64 rows (n_samples, n_pixels)."""
    array = np.asarray(x.cpu() if hasattr(x, "cpu") else x, dtype=np.float64)
    return array.reshape(len(array), -1)


def _solver(large: bool) -> Any:
    if large:
        try:
            from sklearnex import svm
        except ImportError:
            pass
        else:
            return svm.SVC
    from sklearn.svm import SVC

    return SVC


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main("svm"))
