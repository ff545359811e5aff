# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries and other layouts: shared where they fit, refused with a reason where not."""

from __future__ import annotations

import array
import copy
import dataclasses
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wavefix as wfx
from plane_waves import plane_wave_model, random_positions
from wavefix.arrays import as_array, as_output, as_points

N = 6


@pytest.fixture(scope="module")
def model() -> wfx.ChannelModel:
    return plane_wave_model(0, waves=6, extent=2.0)


@pytest.fixture(scope="module")
def positions(model: wfx.ChannelModel) -> np.ndarray:
    return random_positions(model, N)


@pytest.fixture(scope="module")
def channels(model: wfx.ChannelModel, positions: np.ndarray) -> np.ndarray:
    return model.synthesize(positions)


class OnlyDlpack:
    """What NumPy knows of an array library that it has never heard of."""

    def __init__(self, values: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.values, self.device = values, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


def as_torch(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").from_numpy(values.copy())


def as_jax(values: np.ndarray) -> Any:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_platforms", "cpu")
    with jax.experimental.enable_x64() if hasattr(jax.experimental, "enable_x64") else jax.enable_x64(True):
        return jax.numpy.asarray(values)


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "read_only": read_only,
    "memoryview": lambda values: memoryview(values.copy()),
    "dlpack": lambda values: OnlyDlpack(values.copy()),
    "torch": as_torch,
    "jax": as_jax,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_of_the_api_may_come_from_elsewhere(
    kind: str, model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray
) -> None:
    make = KINDS[kind]
    np.testing.assert_array_equal(model.synthesize(make(positions)), channels)
    data = wfx.ChannelDataset(
        make(channels), make(model.antenna_positions), make(model.frequencies), make(positions), make(np.ones(N, bool))
    )
    np.testing.assert_array_equal(data.channels, channels)
    dictionary = wfx.Dictionary.from_measurements(data)
    indices, _ = dictionary.search(make(channels))
    np.testing.assert_array_equal(indices[:, 0], np.arange(N))
    np.testing.assert_array_equal(dictionary.positions(make(indices[:, 0].copy())), positions)
    refined = wfx.refine(model, make(channels), make(positions))
    np.testing.assert_array_equal(refined.position, wfx.refine(model, channels, positions).position)
    bound = wfx.position_error_bound(model, make(positions), 10.0)
    np.testing.assert_array_equal(bound, wfx.position_error_bound(model, positions, 10.0))
    for localizer in (wfx.Localizer(model), wfx.FingerprintLocalizer(data, k=1)):
        np.testing.assert_array_equal(localizer.locate(make(channels)).position, localizer.locate(channels).position)
    scene = wfx.Scene.named("plaza").with_(antennas=2, subcarriers=2, max_bounces=0)
    users = scene.sample(3)
    np.testing.assert_array_equal(
        wfx.simulate(scene, positions=make(users)).channels, wfx.simulate(scene, positions=users).channels
    )
    assert len(scene.paths(make(users[0]))) == len(scene.paths(users[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.int64, np.bool_])
def test_nothing_is_copied_that_fits(kind: str, dtype: type) -> None:
    values = np.ones((N, 3), dtype)
    foreign = KINDS[kind](values)
    if kind == "jax" and foreign.dtype != dtype:
        pytest.skip("this jax keeps no 64 bits")
    address = {
        "read_only": lambda: foreign.ctypes.data,
        "memoryview": lambda: np.asarray(foreign).ctypes.data,
        "dlpack": lambda: foreign.values.ctypes.data,
        "torch": lambda: foreign.data_ptr(),
        "jax": lambda: foreign.unsafe_buffer_pointer(),
    }[kind]()
    assert as_array("x", foreign).ctypes.data == address
    if dtype is np.float64:
        assert as_points("x", foreign).ctypes.data == address


def test_large_batches_are_not_copied(model: wfx.ChannelModel) -> None:
    torch = pytest.importorskip("torch")
    users = random_positions(model, 20000)
    channels = torch.from_numpy(model.synthesize(users))  # 15 MB
    out = torch.empty_like(channels)
    peaks = []
    for call in (
        lambda: model.synthesize(torch.from_numpy(users), out=out),
        lambda: wfx.ChannelDataset(channels, model.antenna_positions, model.frequencies),
        lambda: wfx.refine(model, channels, users, _steps(0)),
    ):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 1.5e6  # the results of refine: 45 bytes a user


def _steps(count: int) -> wfx.RefineOptions:
    options = wfx.RefineOptions()
    options.max_iterations = count
    return options


@pytest.mark.parametrize("kind", ["torch", "dlpack", "memoryview"])
def test_results_are_written_to_other_libraries_arrays(
    kind: str, model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray
) -> None:
    def empty(*shape: int, dtype: type = np.float64) -> Any:
        return KINDS[kind](np.zeros(shape, dtype))

    def read(written: Any) -> np.ndarray:
        return np.asarray(written.values if isinstance(written, OnlyDlpack) else written)

    if kind == "dlpack" and not np.from_dlpack(np.zeros(1)).flags.writeable:
        pytest.skip("this NumPy takes whatever comes by DLPack for read-only, and out= is refused")
    out = empty(*channels.shape, dtype=np.complex64)
    assert model.synthesize(positions, out=out) is out
    np.testing.assert_array_equal(read(out), channels)
    pair = (out, empty(N, 3, *channels.shape[1:], dtype=np.complex64))
    assert model.synthesize(positions, jacobian=True, out=pair) is pair
    np.testing.assert_array_equal(read(pair[1]), model.synthesize(positions, jacobian=True)[1])
    fixes = wfx.Fixes(empty(N, 3), empty(N, 3, 3), empty(N, dtype=np.uint8), empty(N), empty(N))
    localizer = wfx.Localizer(model)
    assert localizer.locate(channels, out=fixes) is fixes
    wanted = localizer.locate(channels)
    for field in dataclasses.fields(wanted):
        np.testing.assert_array_equal(read(getattr(fixes, field.name)), getattr(wanted, field.name))


def test_what_cannot_be_written_to_is_refused(model: wfx.ChannelModel, positions: np.ndarray) -> None:
    shape = (N, 8, 12)
    for out, message in (
        (read_only(np.zeros(shape, np.complex64)), "out: expected a writeable array"),
        (bytes(8 * N * 8 * 12), "out: expected a writeable array"),
        (np.zeros((N, 8, 24), np.complex64)[:, :, ::2], "out: expected a C-contiguous array"),
        (np.zeros(shape, np.complex128), "out: expected dtype complex64, got complex128"),
        ([[0j]], "out: expected an array to write to, got list"),
        (np.ma.zeros(shape, np.complex64), "out: expected an array without a mask"),
    ):
        with pytest.raises(TypeError, match=message):
            model.synthesize(positions, out=out)
    with pytest.raises(wfx.ShapeError, match="out: expected shape"):
        model.synthesize(positions, out=np.zeros((N, 8, 11), np.complex64))


def test_outputs_share_no_memory_with_what_else_a_call_uses(
    model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray
) -> None:
    # rows are computed several at once and in any order, so what one writes must not be what another reads
    room = np.zeros((N, 3, *channels.shape[1:]), np.complex64)
    inside = room.reshape(-1)[: channels.size].reshape(channels.shape)
    points = room.reshape(-1).view(np.float64)[-3 * N :].reshape(N, 3)
    points[:] = positions
    with pytest.raises(ValueError, match="out: shares memory with out_jacobian"):
        model.synthesize(positions, jacobian=True, out=(inside, room))
    with pytest.raises(ValueError, match="out_jacobian: shares memory with positions"):
        model.synthesize(points, jacobian=True, out=(np.empty_like(channels), room))
    np.testing.assert_array_equal(model.synthesize(points, out=inside), channels)  # beside each other they are fine
    with pytest.raises(ValueError, match="out: shares memory with positions"):
        model.synthesize(inside.reshape(-1).view(np.float64)[: 3 * N].reshape(N, 3), out=inside)
    both = np.zeros(N)
    localizer = wfx.Localizer(model)
    for fixes, message in (
        (
            wfx.Fixes(np.zeros((N, 3)), np.zeros((N, 3, 3)), np.zeros(N, np.uint8), both, both),
            r"out\.residual: shares memory with out\.ambiguity",
        ),
        (
            wfx.Fixes(
                inside.reshape(-1).view(np.float64)[: 3 * N].reshape(N, 3),
                np.zeros((N, 3, 3)),
                np.zeros(N, np.uint8),
                both,
                np.zeros(N),
            ),
            r"out\.position: shares memory with channels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            localizer.locate(inside, out=fixes)


def test_jax_arrays_stay_as_they_are(model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray) -> None:
    out = as_jax(np.zeros_like(channels))
    with pytest.raises(TypeError, match="out: expected a writeable array"):
        model.synthesize(positions, out=out)
    assert not np.asarray(out).any()


@pytest.mark.parametrize("order", ["strided", "fortran", "reversed", "misaligned", "big_endian"])
def test_layouts_are_respected_or_refused(
    order: str, model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray
) -> None:
    def laid_out(values: np.ndarray) -> np.ndarray:
        if order == "strided":
            return np.repeat(values, 2, axis=-1)[..., ::2]
        if order == "fortran":
            return np.asfortranarray(values)
        if order == "reversed":
            return values[::-1].copy()[::-1]
        if order == "misaligned":
            raw = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:]
            return raw.view(values.dtype).reshape(values.shape)
        return values.astype(values.dtype.newbyteorder(">"))

    # positions and datasets are brought into shape ...
    np.testing.assert_array_equal(model.synthesize(laid_out(positions)), channels)
    np.testing.assert_array_equal(
        wfx.position_error_bound(model, laid_out(positions), 3.0), wfx.position_error_bound(model, positions, 3.0)
    )
    data = wfx.ChannelDataset(laid_out(channels), model.antenna_positions, model.frequencies)
    np.testing.assert_array_equal(data.channels, channels)
    # ... queries, which may be large, are not copied behind the caller's back
    wanted = {"misaligned": "aligned", "big_endian": "dtype complex64, got >c8"}.get(order, "C-contiguous")
    for call in (
        lambda: wfx.Localizer(model).locate(laid_out(channels)),
        lambda: wfx.refine(model, laid_out(channels), positions),
        lambda: wfx.Dictionary.from_model(model, 0.05).search(laid_out(channels)),
    ):
        with pytest.raises(TypeError, match=wanted):
            call()


def test_tensors_that_are_more_than_their_memory_are_refused(model: wfx.ChannelModel, channels: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    localizer = wfx.Localizer(model)
    tensor = torch.from_numpy(channels.copy())
    for changed, message in (
        (tensor.conj(), r"channels: .*conjugate bit.*resolve_conj\(\)"),
        (tensor.clone().requires_grad_(), r"channels: .*gradient.*detach\(\)"),
        (tensor.to_sparse(), "channels: this Tensor does not share its memory"),
        (tensor.to("meta"), "channels: .*meta"),
        (tensor.to(torch.complex128), "channels: expected dtype complex64, got complex128"),
    ):
        with pytest.raises(TypeError, match=message):
            localizer.locate(changed)
    negative = torch.ones(N, 3, dtype=torch.complex128).conj().imag
    with pytest.raises(TypeError, match=r"positions: .*negative bit.*resolve_neg\(\)"):
        model.synthesize(negative)
    with pytest.raises(TypeError, match=r"positions: .*dtype"):
        model.synthesize(torch.ones(N, 3, dtype=torch.bfloat16))


def test_other_devices_are_refused_by_name(channels: np.ndarray) -> None:
    for device, name in ((2, "CUDA"), (10, "ROCm"), (8, "Metal"), (99, "device type 99")):
        with pytest.raises(TypeError, match=f"channels: expected an array in main memory, got a OnlyDlpack on {name}"):
            as_array("channels", OnlyDlpack(channels, (device, 0)))
    assert as_array("channels", OnlyDlpack(channels, (3, 0))).ctypes.data == channels.ctypes.data  # pinned by CUDA


def test_masked_and_ragged_and_other_objects_are_refused(model: wfx.ChannelModel) -> None:
    with pytest.raises(TypeError, match="positions: expected an array without a mask"):
        model.synthesize(np.ma.masked_invalid(np.zeros((1, 3))))
    with pytest.raises(wfx.ShapeError, match="positions: expected rows of one length"):
        model.synthesize([[0.0, 1.0, 2.0], [0.0]])
    for odd in ("text", None, object(), {"x": 1}):
        with pytest.raises((TypeError, wfx.ShapeError), match="positions"):
            model.synthesize(odd)
    with pytest.raises(TypeError, match="out"):
        as_output("out", None)
    flat = array.array("d", [1.0, 2.0, 1.5])
    assert as_points("x", memoryview(flat).cast("B").cast("d", (1, 3))).tolist() == [[1.0, 2.0, 1.5]]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second, equal_nan=True)
    if dataclasses.is_dataclass(first):
        return all(same(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first))
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second) or first != first


def test_results_and_options_can_be_pickled_and_copied(
    model: wfx.ChannelModel, positions: np.ndarray, channels: np.ndarray
) -> None:
    data = wfx.ChannelDataset(channels, model.antenna_positions, model.frequencies, positions)
    localizer = wfx.Localizer(model, "on_grid_naive", circles=2, max_iterations=7)
    scene = wfx.Scene.named("plaza")
    for thing in (
        data,
        scene,
        localizer.locate(channels),
        wfx.refine(model, channels, positions),
        wfx.evaluate(model, data, localizers=["on_grid_naive"], snr_db=10.0),
    ):
        for twin in (pickle.loads(pickle.dumps(thing)), copy.copy(thing), copy.deepcopy(thing)):
            assert same(thing, twin)
    for options in (pickle.loads(pickle.dumps(localizer.options)), copy.deepcopy(localizer.options)):
        assert (options.strategy, options.circles, options.refine.max_iterations) == ("on_grid_naive", 2, 7)
    neighbors = wfx.FingerprintLocalizer(data, k=2, similarity="phase_insensitive")
    grid = wfx.Dictionary.from_model(model, 0.05)
    for twins in (pickle.loads(pickle.dumps((neighbors, grid))), copy.deepcopy((neighbors, grid))):
        assert same(twins[0].locate(channels), neighbors.locate(channels))
        assert same(twins[1].search(channels), grid.search(channels))
    measured = wfx.Dictionary.from_measurements(data)
    with pytest.raises(TypeError, match="pickle the ChannelDataset"):
        pickle.dumps(measured)
    for constant in (model, localizer, measured):  # what never changes needs no second copy, nor a second plan
        assert copy.copy(constant) is constant
        assert copy.deepcopy([constant])[0] is constant
    region = pickle.loads(pickle.dumps(model.region))
    for name in ("origin", "basis", "lower", "upper"):
        np.testing.assert_array_equal(getattr(region, name), getattr(model.region, name))
