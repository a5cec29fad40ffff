"""What a MONAI bundle does before, around and after its network.

Every step is known here with all of its options, or is known to change nothing, or the bundle is refused: a network
that sees other intensities than it was trained on answers all the same, and wrongly.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..errors import ModelError
from ..inference.rules import Cleanup, Decision, InputRules, IntensityStep, WindowRules
from .bundle_config import Configuration
from .card_file import checked_orientation
from .monai_steps import ADVICE, Step, steps_for

AS_READ = "ijk"  # columns, rows, slices: how MONAI's readers give what no step turns
# What a volume in memory has behind it, and what changes no value.
_WITHOUT_EFFECT = {"LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "CastToType"}
_WITHOUT_EFFECT |= {"ToTensor", "ToDevice", "Identity"}
_WITHOUT_EFFECT_AFTER = {"Invert", "SaveImage", "EnsureType", "CastToType", "ToTensor", "ToDevice", "Identity"}
_WHERE_IT_RUNS = ("sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh")


def input_rules(configuration: Configuration, channels: int = 1, names: tuple[str, ...] = ()) -> InputRules:
    """Return what the steps before the network do.

    Parameters
    ----------
    channels, names
        Input channels, each a volume of its own, and what they are; empty where that is not known.

    Raises
    ------
    ModelError
        There is no list of them, or one of them is not known in all of its options; the text names it.
    """
    given = configuration.get("preprocessing")
    if given is None:
        raise ModelError("the bundle's configuration has no 'preprocessing'", advice=ADVICE)
    orientation = AS_READ
    spacing: tuple[float, ...] = ()
    intensity: list[IntensityStep] = []
    resampled_first = False
    for step in steps_for("image", configuration, given, "preprocessing"):
        if step.kind in _WITHOUT_EFFECT:
            continue
        if step.kind == "Orientation":
            canonical = step.get("as_closest_canonical", False) is True
            orientation = "RAS" if canonical else str(step.get("axcodes", "RAS"))
            orientation = checked_orientation(orientation, "the bundle's step Orientation")
            step.get("labels")
            if spacing:
                raise step.refused("after Spacing")
        elif step.kind == "Spacing":
            if spacing:
                raise step.refused("twice")
            spacing, resampled_first = _spacing(step), not intensity
        elif step.kind in _INTENSITY:
            if spacing and not resampled_first:
                raise step.refused("after Spacing where another step on intensities is before it")
            if channels > 1:
                _refuse_joint(step)
            intensity += _INTENSITY[step.kind](step)
        else:
            raise step.refused()
        step.refuse_other_options()
    return InputRules(
        orientation, spacing, tuple(intensity), channels, names if channels > 1 else (), resampled_first=resampled_first
    )


def window_rules(configuration: Configuration, seen: InputRules) -> tuple[InputRules, WindowRules]:
    """Return what the network sees and how the bundle's inferer runs it; raises as :func:`input_rules` does.

    Parameters
    ----------
    seen
        From :func:`input_rules`; for a 2D network the axis that its slices lie along comes first in what is returned.
    """
    given = configuration.get("inferer")
    if not isinstance(given, Mapping) or "_target_" not in given:
        raise ModelError("the bundle's configuration has no 'inferer'", advice=ADVICE)
    inferer = Step(configuration, given)
    if inferer.kind == "SimpleInferer":
        return seen, WindowRules()
    if inferer.kind not in ("SlidingWindowInferer", "SliceInferer"):
        raise inferer.refused()
    inferer.expect(padding_mode="constant", sigma_scale=0.125)
    patch, overlap = inferer.get("roi_size"), inferer.get("overlap", 0.25)
    mode = str(inferer.get("mode", "constant")).lower()
    allowed = (2,) if inferer.kind == "SliceInferer" else (2, 3)
    if not isinstance(patch, list) or len(patch) not in allowed or min(int(extent) for extent in patch) < 1:
        raise inferer.refused(f"with roi_size = {patch!r}")
    overlaps = {float(share) for share in (overlap if isinstance(overlap, list) else [overlap])}
    if mode not in ("constant", "gaussian") or len(overlaps) != 1 or not 0 <= min(overlaps) < 1:
        raise inferer.refused(f"with mode = {mode!r} and overlap = {overlap!r}")
    rules = WindowRules(
        tuple(int(extent) for extent in patch),
        overlaps.pop(),
        tiling="monai",
        importance=mode,
        padding_value=float(inferer.get("cval", 0.0)),
    )
    if len(patch) == 2:
        seen = _slices_first(seen, _slice_axis(inferer, seen))
    inferer.ignore(*_WHERE_IT_RUNS, "buffer_steps", "buffer_dim")
    inferer.refuse_other_options()
    return seen, rules


def _slice_axis(inferer: Step, seen: InputRules) -> int:
    """Return along which axis of MONAI's image the slices lie that a 2D network sees."""
    if inferer.kind == "SliceInferer":
        axis = inferer.get("spatial_dim", 0)
        if axis not in (0, 1, 2):
            raise inferer.refused(f"with spatial_dim = {axis!r}")
        return int(axis)
    # MONAI's windows of two numbers go over images of two axes: over columns and rows, each slice by itself.
    if any(step.rule in ("min-max", "percentiles", "z-score") for step in seen.intensity):
        raise inferer.refused("with roi_size in two numbers after intensities of each slice by itself")
    return 2


def _slices_first(seen: InputRules, axis: int) -> InputRules:
    order = [axis, *(other for other in range(3) if other != axis)]
    spacing = tuple(seen.spacing_mm[place] for place in order) if seen.spacing_mm else ()
    return replace(seen, orientation="".join(seen.orientation[place] for place in order), spacing_mm=spacing)


def output_rules(configuration: Configuration, channels: int, background: bool) -> tuple[Decision, tuple[Cleanup, ...]]:
    """Return how the outputs become labels, and what the steps after the network clean up.

    Parameters
    ----------
    channels
        Output channels.
    background
        The first of them is the background.

    Raises
    ------
    ModelError
        A step is not known in all of its options, or contradicts the channels, or several channels may overlap; the
        text names it.
    """
    values = tuple(range(channels)) if background else tuple(range(1, channels + 1))
    activation, threshold, activated = "softmax" if background else "sigmoid", 0.5, False
    cleanups: list[Cleanup] = []
    given = configuration.get("postprocessing")
    for step in steps_for("pred", configuration, given, "postprocessing") if given is not None else []:
        if step.kind in _WITHOUT_EFFECT_AFTER:
            continue
        if step.kind == "Activations":
            activation, activated = "sigmoid" if step.get_one("sigmoid", False) else "softmax", True
            step.expect(sigmoid=activation == "sigmoid", softmax=activation == "softmax", other=None, dim=0)
        elif step.kind == "AsDiscrete":
            if step.get_one("argmax", False):
                activation = "softmax"
                step.expect(threshold=None)
            else:
                threshold = _number(step, "threshold")
                if activated and activation == "softmax":
                    raise step.refused("with a threshold after softmax")
                activation = "sigmoid" if activated else "none"
            step.expect(to_onehot=None, rounding=None, dim=0, keepdim=True)
        elif step.kind == "KeepLargestConnectedComponent":
            cleanups += _largest(step, values)
        else:
            raise step.refused()
        step.refuse_other_options()
    if activation != "softmax" and background:
        raise ModelError("the bundle's channels begin with the background, and each has a threshold", advice=ADVICE)
    if activation != "softmax" and channels > 1:
        raise ModelError(
            f"the bundle's {channels} channels have a threshold each: they may overlap, or lie within one another, and "
            "nothing in a bundle says which of them a voxel gets",
            advice='Write a model card for its network that says so: overlap_rule = "highest" or "last".',
        )
    final = activation == "none"  # the network's own outputs are what is compared with the threshold
    return Decision(values, "sigmoid" if final else activation, final, threshold), tuple(cleanups)


def _spacing(step: Step) -> tuple[float, ...]:
    step.expect(mode="bilinear", padding_mode="border", diagonal=False, align_corners=False, scale_extent=False)
    step.ignore("recompute_affine", "ensure_same_shape")
    pixdim = step.get("pixdim")
    sizes = pixdim if isinstance(pixdim, list) else [pixdim] * 3
    if len(sizes) != 3:
        raise step.refused(f"with pixdim = {pixdim!r}")
    return tuple(max(0.0, float(size)) for size in sizes)  # none above 0: the image's own


def _refuse_joint(step: Step) -> None:
    """Refuse a step that looks at all channels as one, or does another thing to each; here every channel is alone."""
    if step.kind == "ScaleIntensityRange":
        return
    if any(isinstance(step.get(option), list) for option in ("subtrahend", "divisor")):
        raise step.refused("with numbers for each channel")
    if step.get("channel_wise", False) is not True:
        raise step.refused("over several channels as one")


def _range(step: Step) -> list[IntensityStep]:
    low, high = _number(step, "a_min"), _number(step, "a_max")
    to_low, to_high = _output_range(step, "b_min", "b_max")
    clip = [IntensityStep("clip", min(low, high), max(low, high))] if step.get("clip", False) is True else []
    if low == high:
        raise step.refused(f"with a_min = a_max = {low}")
    scale = (high - low) / (to_high - to_low)  # (x - mean) / std takes low and high to to_low and to_high
    return [*clip, IntensityStep("shift-scale", mean=low - to_low * scale, std=scale)]


def _percentiles(step: Step) -> list[IntensityStep]:
    low, high = _number(step, "lower"), _number(step, "upper")
    to_low, to_high = _output_range(step, "b_min", "b_max")
    if step.get("relative", False) is True:
        to_low, to_high = (to_low + (to_high - to_low) * share / 100 for share in (low, high))
    if step.get("clip", False) is not True or not 0 <= low < high <= 100:
        raise step.refused(f"without clip, or from {low} to {high}")
    return [IntensityStep("percentiles", low, high), *_stretched(to_low, to_high)]


def _scale(step: Step) -> list[IntensityStep]:
    if step.get("minv", 0.0) is None and step.get("maxv", 1.0) is None:
        return [IntensityStep("shift-scale", std=1 / (1 + _number(step, "factor")))]
    to_low, to_high = _output_range(step, "minv", "maxv", (0.0, 1.0))
    step.ignore("factor")
    return [IntensityStep("min-max"), *_stretched(to_low, to_high)]


def _normalised(step: Step) -> list[IntensityStep]:
    nonzero = step.get("nonzero", False) is True
    given = [step.get_one("subtrahend"), step.get_one("divisor")]
    if given == [None, None]:
        return [IntensityStep("z-score", nonzero_only=nonzero)]
    if nonzero or None in given or float(given[1]) == 0:
        raise step.refused(f"with subtrahend = {given[0]!r} and divisor = {given[1]!r}")
    return [IntensityStep("shift-scale", mean=float(given[0]), std=float(given[1]))]


def _largest(step: Step, values: tuple[int, ...]) -> list[Cleanup]:
    labels = step.get("applied_labels")
    chosen = labels if isinstance(labels, list) else [labels] if labels is not None else range(len(values))
    connectivity = step.get("connectivity")
    if connectivity not in (None, 1, 3) or (len(chosen) > 1 and step.get("independent", True) is not True):
        raise step.refused("for several labels as one, or by edges")
    step.expect(num_components=1)
    step.ignore("is_onehot", "independent")
    kept = [values[int(channel)] for channel in chosen if 0 <= int(channel) < len(values)]
    return [Cleanup(value, keep_largest_component=True, by_corners=connectivity != 1) for value in kept if value]


def _stretched(low: float, high: float) -> list[IntensityStep]:
    """Return the step that takes 0 and 1 to low and high; none where it is not needed."""
    if (low, high) == (0.0, 1.0):
        return []
    return [IntensityStep("shift-scale", mean=-low / (high - low), std=1 / (high - low))]


def _output_range(step: Step, low: str, high: str, usual: tuple[float, float] | None = None) -> tuple[float, float]:
    first, second = (step.get(name, usual[place] if usual else None) for place, name in enumerate((low, high)))
    if first is None and second is None:
        return 0.0, 1.0
    if first is None or second is None or float(first) >= float(second):
        raise step.refused(f"with {low} = {first!r} and {high} = {second!r}")
    return float(first), float(second)


def _number(step: Step, option: str) -> float:
    value = step.get_one(option)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise step.refused(f"with {option} = {value!r}")
    return float(value)


_INTENSITY: Mapping[str, Callable[[Step], list[IntensityStep]]] = {
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalised,
}
