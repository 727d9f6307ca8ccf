"""A cell: one fully specified point of a sweep, and its identity.

A cell holds all that changes the samples and nothing else, so its id (a hash of its canonical JSON) names an endless
stream of samples. Canonical JSON leaves out fields at their defaults, so that a new field leaves old ids alone, and
writes 1.0 as 1.
"""

import hashlib
import json
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from cfgbench.registry import METHODS, MODELS, SAMPLERS

OWN_STEPS = "num_inference_steps"  # the parameter of a pipeline that runs a loop of its own
Value = str | int | float | bool | tuple[float | None, ...] | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ModelRef(_Frozen):
    """A model by registry name, its non-default parameters, and the digest of the weights behind them."""

    name: str
    parameters: dict[str, Value] = {}
    digest: str | None = None
    location: dict[str, str] = {}  # where the files are that the digest is of: path, revision, variant; in no id
    scales: dict[str, float] = {}  # those of its own, also at their defaults; in an id as parameters alone

    @property
    def label(self) -> str:
        """`digits`, `digits(p_uncond=0.5)` or `sdxl(sdxl-base, height=512)`: what tables show, beside its scales."""
        where = [value.rstrip("/").rsplit("/", maxsplit=1)[-1] for _, value in sorted(self.location.items())]
        given = [f"{key}={number(value)}" for key, value in sorted(self.parameters.items()) if key not in self.scales]
        return f"{self.name}({', '.join([*where, *given])})" if where or given else self.name

    @property
    def conditional(self) -> "ModelRef":
        """The same without what changes its prediction without condition alone, which nobody asks for unguided."""
        schema = MODELS[self.name].parameters if self.name in MODELS else {}
        kept = {key: value for key, value in self.parameters.items() if key not in schema or not schema[key].uncond}
        return self if kept == self.parameters else self.model_copy(update={"parameters": kept})

    def at(self, **scales: float) -> "ModelRef":
        """The same at other values of its scales."""
        defaults = {name: MODELS[self.name].parameters[name].default for name in scales}
        changed = {name: value for name, value in scales.items() if value != defaults[name]}
        kept = {key: value for key, value in self.parameters.items() if key not in scales}
        return self.model_copy(update={"parameters": kept | changed, "scales": self.scales | scales})

    @property
    def arguments(self) -> dict[str, Value]:
        """Everything that its functions in the registry take."""
        return {**self.parameters, **self.location}


class Guidance(_Frozen):
    """A guidance method, its non-default parameters, and the digest of the file behind it where it is a plug-in."""

    method: str
    parameters: dict[str, Value] = {}
    digest: str | None = None


class Diffusion(_Frozen):
    """Settings of the diffusion family's sampling loop."""

    sampler: str
    steps: int
    eta: float = 0.0
    state_dtype: str | None = None


class Cell(_Frozen):
    """One point of a sweep. Equal cells have equal ids; the ids of two processes or machines agree."""

    model: ModelRef
    guidance: Guidance
    diffusion: Diffusion | None = None  # absent for a generator of one pass, and for samples made elsewhere
    one_pass: bool = False
    dtype: str = "fp32"
    execution: str = "eager"  # how the networks compute: as they are, compiled, ...
    seed: int = 0
    prompts: str | None = None  # digest of the prompt set; sample i has prompt i mod its length

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return digest(self.model_dump(exclude_defaults=True, exclude={"model": {"location", "scales"}}))

    @property
    def arithmetic(self) -> str:
        """In what its networks compute: `fp32`, or `bf16 compile` where that is not as they are."""
        return self.dtype if self.execution == "eager" else f"{self.dtype} {self.execution}"

    @property
    def scale(self) -> float | None:
        """How strong the guidance is, on its method's own axis; absent where the method has none."""
        name = METHODS[self.guidance.method].scale
        return None if name is None else _as_float(self.guidance.parameters[name])

    @property
    def guidance_scale(self) -> float:
        """s in `uncond + s (cond - uncond)`; what a method with a scale of its own starts from: 1, or 0."""
        base = METHODS[self.guidance.method].base_scale
        return _as_float(self.guidance.parameters.get("guidance_scale", base))

    @property
    def classifier_scale(self) -> float:
        """The factor of the classifier's gradient; 0 = off."""
        return _as_float(self.guidance.parameters.get("classifier_scale", 0.0))

    @cached_property
    def cost_class(self) -> str:
        """Id of what determines speed: the cell without its seed, its prompts and the values of scales."""
        kept = {key: value for key, value in self.model.parameters.items() if key not in self.model.scales}
        model = self.model.model_copy(update={"parameters": kept, "location": {}, "scales": {}})
        same = self.model_copy(update={"model": model})
        body = same.model_dump(exclude_defaults=True, exclude={"seed": True, "prompts": True})
        scale = METHODS[self.guidance.method].scale
        if scale is not None:
            body["guidance"]["parameters"].pop(scale, None)
        return digest(body)

    @property
    def evaluations(self) -> int:
        """Upper bound on network evaluations per sample (an interval skips some); the run counts them."""
        return self.steps_evaluated * METHODS[self.guidance.method].passes

    @property
    def classifier_evaluations(self) -> int:
        """Upper bound on classifier gradients per sample."""
        return self.steps_evaluated * METHODS[self.guidance.method].classifier_passes

    @property
    def steps_evaluated(self) -> int:
        """Length of the sampler's timestep list: how often it asks for a prediction; a generator is asked once."""
        if self.one_pass:
            return int(_as_float(self.model.parameters.get(OWN_STEPS, 1)))
        n = self.sampler.steps
        return {"n": n, "2n-1": 2 * n - 1, "n+1": n + 1}[SAMPLERS[self.sampler.sampler].evaluations]

    @property
    def made_elsewhere(self) -> bool:
        """Whether cfgbench did not make the samples, so that nothing is known of how they were made."""
        return self.diffusion is None and not self.one_pass

    @property
    def sampler(self) -> Diffusion:
        """The sampler's settings; raises ValueError for samples that were made without one, or elsewhere."""
        if self.diffusion is None:
            reason = "a generator's, made in one pass" if self.one_pass else "made elsewhere"
            raise ValueError(f"the samples of cell {self.id} are {reason}; they have no known sampler")
        return self.diffusion


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces in which equal numbers are equal text."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """16 hex digits that name a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def number(value: object) -> str:
    """A number as people write it: 1 for 1.0, 1.05 for 1.05; other values by str."""
    return str(_canonical(value))


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _as_float(value: Value) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a scale is a number, not {value!r}")
    return float(value)
