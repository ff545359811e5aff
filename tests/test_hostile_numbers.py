# SPDX-License-Identifier: Apache-2.0
"""Numbers at the edge: the table of docs/conventions.md, row by row."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import wavefix as wfx
from factories import METADATA, ModelFile
from plane_waves import plane_wave_model, plane_wave_tensors, random_positions
from spherical_models import random_spherical_model
from wavefix import STRATEGIES, Status
from wavefix.propagation import FreeArray

SCALES = (1e-30, 1e-15, 1.0, 1e15, 1e30)
Make = Callable[[float], wfx.ChannelModel]


def planar(scale: float) -> wfx.ChannelModel:
    tensors = plane_wave_tensors(0, waves=8, extent=2.0)
    tensors["weight.scale"] = np.array([scale])
    return wfx.ChannelModel.from_bytes(ModelFile(tensors, dict(METADATA)).data)


def spherical_file(**changes: Callable[[np.ndarray], np.ndarray]) -> ModelFile:
    file = random_spherical_model(2, sources=5, gates=False)
    file.tensors["region.lower"], file.tensors["region.upper"] = np.full(2, -0.1), np.full(2, 0.1)
    for name, change in changes.items():
        file.tensors[name] = np.ascontiguousarray(change(file.tensors[name]))
    return file


def spherical(scale: float) -> wfx.ChannelModel:
    return wfx.ChannelModel.from_bytes(spherical_file(gain_coefficients=lambda g: g * np.float32(scale)).data)


def dataset(channels: np.ndarray, model: wfx.ChannelModel, positions: np.ndarray) -> wfx.ChannelDataset:
    return wfx.ChannelDataset(channels, model.antenna_positions, model.frequencies, positions)


@pytest.mark.parametrize("make", [planar, spherical])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_scale_of_the_channels_does_not_matter(make: Make, strategy: str) -> None:
    base = make(1.0)
    positions = random_positions(base, 5)
    wanted = wfx.Localizer(base, strategy).locate(base.synthesize(positions))
    bound = wfx.position_error_bound(base, positions, 10.0)
    for scale in SCALES:
        model = make(scale)
        fixes = wfx.Localizer(model, strategy).locate(model.synthesize(positions))
        # on the grid both are the same points; off it Gauss-Newton stops within 1e-6 wavelengths of either
        np.testing.assert_allclose(fixes.position, wanted.position, atol=1e-6 * base.wavelength)
        np.testing.assert_array_equal(fixes.status, wanted.status)
        np.testing.assert_allclose(wfx.position_error_bound(model, positions, 10.0), bound, rtol=1e-4)


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_treated_alike_on_all_threads(flushed: bool) -> None:
    torch = pytest.importorskip("torch")
    model = planar(1e-36)  # entries of 1e-37, sums of denormal parts
    positions = random_positions(model, 2000)
    if not torch.set_flush_denormal(flushed):
        pytest.skip("this processor cannot flush denormals")
    try:
        alone = model.synthesize(positions, threads=1)
        together = [model.synthesize(positions, threads=3) for _ in range(5)]
    finally:
        torch.set_flush_denormal(False)
    smallest = np.abs(alone.real[alone.real != 0]).min()
    assert (smallest < np.finfo(np.float32).tiny) != flushed
    for channels in together:
        assert channels.tobytes() == alone.tobytes()


@pytest.mark.parametrize("similarity", ["phase_sensitive", "phase_insensitive"])
@pytest.mark.parametrize("scale", [1e-41, 1e-38, *SCALES, 1e37])
def test_a_search_is_exhaustive_at_any_scale(similarity: str, scale: float) -> None:
    model = plane_wave_model(0, waves=6, extent=2.0)
    positions = random_positions(model, 40)
    entries = model.synthesize(positions)
    entries = ((entries / np.abs(entries).max()).astype(np.complex128) * scale).astype(np.complex64)
    queries = entries[::3] + (0.01 * scale * np.exp(1j * np.arange(14)))[:, None, None].astype(np.complex64)
    indices, distances = wfx.Dictionary.from_measurements(dataset(entries, model, positions)).search(
        queries,
        similarity,  # type: ignore[arg-type]
        k=2,
    )
    h, f = queries.reshape(14, -1).astype(np.complex128), entries.reshape(40, -1).astype(np.complex128)
    if similarity == "phase_sensitive":
        exact = np.linalg.norm(h[:, None] - f[None], axis=2)
    else:
        norms = np.linalg.norm(h, axis=1)[:, None] * np.linalg.norm(f, axis=1)
        exact = np.sqrt(np.maximum(0, 2 - 2 * np.abs(h @ f.conj().T) / norms))
    np.testing.assert_array_equal(indices, np.argsort(exact, axis=1, kind="stable")[:, :2])
    # (5) takes the root of a rounding error of 1e-16 where it is nearly zero
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :2], rtol=1e-9, atol=1e-7 * min(1.0, scale))


def test_searches_answer_about_zero_and_about_what_overflows() -> None:
    model = plane_wave_model(0, waves=6, extent=2.0)
    positions = random_positions(model, 4)
    entries = model.synthesize(positions)
    dictionary = wfx.Dictionary.from_measurements(dataset(entries, model, positions))
    queries = np.zeros((3, 8, 12), np.complex64)
    queries[1] = np.nan
    queries[2] = 3e38 * (1 + 1j)
    indices, distances = dictionary.search(queries, "phase_sensitive")
    weakest = int(np.argmin(np.linalg.norm(entries.reshape(4, -1), axis=1)))
    assert indices[:2, 0].tolist() == [weakest, -1]
    assert np.isnan(distances[1, 0])
    assert np.isfinite(distances[2, 0])
    indices, distances = dictionary.search(queries, "phase_insensitive", k=2)
    assert indices[:2].tolist() == [[0, 1], [-1, -1]]
    np.testing.assert_allclose(distances[0], np.sqrt(2.0))
    loud = wfx.Dictionary.from_measurements(dataset(np.full((2, 8, 12), 3e38 + 3e38j), model, positions[:2]))
    assert loud.search(queries[2:], "phase_insensitive", k=2)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hostile_queries_get_a_status_and_leave_the_others(strategy: str) -> None:
    model = plane_wave_model(0, waves=8, extent=2.0)
    channels = model.synthesize(random_positions(model, 9))
    localizer = wfx.Localizer(model, strategy)
    wanted = localizer.locate(channels)
    hostile = channels.copy()
    hostile[0, 1, 2], hostile[1, 0, 0], hostile[2] = np.nan, -np.inf, 0
    hostile[3] *= np.float32(1e25)
    hostile[4] *= np.float32(1e-25)
    hostile[5], hostile[6] = 1e-45, 3e38 * (1 + 1j)
    fixes = localizer.locate(hostile)
    assert fixes.status[:3].tolist() == [Status.INVALID_INPUT] * 3
    assert np.isnan(fixes.position[:3]).all()
    assert set(fixes.status[3:7].tolist()) <= {Status.POOR_FIT, Status.OUTSIDE_REGION}
    assert np.isfinite(fixes.position[3:7]).all()
    for field in dataclasses.fields(fixes):
        np.testing.assert_array_equal(getattr(fixes, field.name)[7:], getattr(wanted, field.name)[7:])


@pytest.mark.parametrize("make", [planar, spherical])
def test_positions_anywhere_have_an_answer(make: Make) -> None:
    model = make(1.0)
    channels = model.synthesize(random_positions(model, 1))
    near = model.region.origin
    for value in (np.nan, np.inf, -np.inf):
        bad = near + np.array([0.0, value, 0.0])
        with pytest.raises(wfx.DataError, match="positions: value that is not finite at index 1"):
            model.synthesize([near, bad])
        bound = wfx.position_error_bound(model, [near, bad], 10.0)
        assert np.isnan(bound).tolist() == [False, True]
        refined = wfx.refine(model, np.repeat(channels, 2, axis=0), [near, bad])
        assert np.isnan(refined.position).any(axis=1).tolist() == [False, True]
        assert not refined.converged[1]
    for distance in (1e3, 1e6, 1e9, 1e12):
        assert np.isfinite(model.synthesize([near + distance])).all()
        assert np.isfinite(wfx.refine(model, channels, [near + distance]).position).all()
    if model.kind == "spherical":
        assert np.isnan(model.synthesize([near + 1e30])).all()  # no digit of a phase is left
    refined = wfx.refine(model, channels, [[1e300, -1e300, 1e300]])
    assert np.isnan(refined.position).all()
    assert not refined.converged[0]


def test_a_user_on_an_antenna_or_a_virtual_source_has_a_channel() -> None:
    file = random_spherical_model(1, dimension=3)
    model = wfx.ChannelModel.from_bytes(file.data)
    offset = file.tensors["antenna_positions"] - file.tensors["antenna_positions"].mean(axis=0)
    images = file.tensors["source_positions"][0] + offset @ file.tensors["source_rotations"][0].T
    for x in (images[3], images[3] + 1e-12, file.tensors["source_positions"][0], model.antenna_positions[0]):
        channels, jacobian = model.synthesize([x], jacobian=True)
        assert np.isfinite(channels).all()
        assert np.isfinite(jacobian).all()
    # the pole is cut off at a micrometer: on it the field is that of a micrometer away, to the turn of the phase
    beside = np.abs(model.synthesize(images[3] + np.array([[0, 0, 0], [1e-6, 0, 0]])))[:, 3]
    assert beside[0].max() < 3 * beside[1].max()


def test_simulated_users_anywhere_have_an_answer() -> None:
    scene = wfx.Scene.named("plaza").with_(antennas=4, subcarriers=4, max_bounces=2)
    antennas = scene.antenna_positions
    with pytest.raises(wfx.DataError, match=r"positions\[1\]: expected a distance to every antenna"):
        wfx.simulate(scene, positions=[[0.0, 0, 1.5], antennas[2]])
    middle, corner = np.mean(scene.walls[1].corners, axis=0), scene.walls[1].corners[0]
    images = [path.sources[0] for path in scene.paths(scene.sample(1)[0]) if path.order]
    places = [middle, corner, antennas[0] + 1e-6, *images, [0, 0, -1], *np.diag([1e6, 1e30, 1e90])]
    assert np.isfinite(wfx.simulate(scene, positions=places).channels).all()
    for bad in (np.nan, np.inf):
        with pytest.raises(wfx.DataError, match="positions: expected finite"):
            wfx.simulate(scene, positions=[[0, bad, 0]])
    with pytest.raises(wfx.DataError, match=r"positions\[1\]: expected coordinates below 1e100 m"):
        wfx.simulate(scene, positions=[[0, 0, 1.5], [0, 1e155, 0]])
    for change in ({"carrier": np.nan}, {"carrier": np.inf}, {"carrier": 0.0}, {"carrier": 1e-300}, {"bandwidth": 0.0}):
        with pytest.raises(wfx.DataError):
            scene.with_(**change)
    twice = scene.with_(array=FreeArray(tuple(map(tuple, antennas[[0, 0, 1]]))), subcarriers=1)
    channels = wfx.simulate(twice, n=3).channels
    np.testing.assert_array_equal(channels[:, 0], channels[:, 1])


@pytest.mark.parametrize(
    ("change", "order"),
    [
        ({"antenna_positions": lambda a: np.repeat(a[:4], 2, axis=0)}, None),
        ({"antenna_positions": lambda a: np.repeat(a[:1], 8, axis=0)}, None),
        ({"frequencies": lambda f: np.repeat(f[:4], 2)}, None),
        ({"frequencies": lambda f: np.repeat(f[:1], 8)}, None),
        ({"frequencies": lambda f: f[::-1]}, [7, 6, 5, 4, 3, 2, 1, 0]),
        ({"frequencies": lambda f: f[[3, 1, 0, 2, 7, 6, 5, 4]]}, [3, 1, 0, 2, 7, 6, 5, 4]),
    ],
)
def test_repeated_and_unsorted_axes_are_supported(change: dict, order: list[int] | None) -> None:
    model = wfx.ChannelModel.from_bytes(spherical_file(**change).data)
    positions = random_positions(model, 5)
    channels = model.synthesize(positions)
    assert np.isfinite(channels).all()
    # the truth is a minimum of any such cost, and the search starts next to it
    refined = wfx.refine(model, channels, positions + 1e-3 * model.region.basis[0])
    np.testing.assert_allclose(refined.position, positions, atol=1e-5 * model.wavelength)
    fixes = wfx.Localizer(model).locate(channels)
    assert not (fixes.status == Status.INVALID_INPUT).any()
    if order is not None:  # the order of subcarriers is a matter of naming
        base = wfx.ChannelModel.from_bytes(spherical_file().data)
        # one bit of the phase at the band's edge, where the recurrence along k starts
        np.testing.assert_allclose(
            channels, base.synthesize(positions)[:, :, order], atol=1e-6 * np.abs(channels).max()
        )
        wanted = wfx.Localizer(base).locate(base.synthesize(positions))
        np.testing.assert_array_equal(fixes.status, wanted.status)
        np.testing.assert_allclose(fixes.position, wanted.position, atol=1e-5 * base.wavelength)


def test_a_bandwidth_beyond_the_range_of_numbers_has_no_plan() -> None:
    def far_apart(frequencies: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(frequencies)) == 0, 1e308, frequencies)

    model = wfx.ChannelModel.from_bytes(spherical_file(frequencies=far_apart).data)
    with pytest.raises(wfx.Error, match="float_fix: a bandwidth"):
        wfx.Localizer(model)


@pytest.mark.parametrize(("antennas", "subcarriers"), [(1, 1), (1, 16), (16, 1)])
def test_one_antenna_and_one_subcarrier(antennas: int, subcarriers: int) -> None:
    model = plane_wave_model(0, antennas=antennas, subcarriers=subcarriers, waves=6, extent=1.0)
    positions = random_positions(model, 40)
    fixes = wfx.Localizer(model).locate(model.synthesize(positions))
    assert np.isfinite(fixes.position).all()
    # 1 to 16 numbers hardly tell minima apart, and where the best is missed the status says so
    assert (fixes.residual < 1e-6).mean() >= 0.9
    assert (fixes.status[fixes.residual >= 1e-6] != Status.OK).all()
    assert (wfx.position_error_bound(model, positions, 10.0) > 0).all()


def test_ratios_of_noise_beyond_all_bounds() -> None:
    model = plane_wave_model(0, extent=1.0)
    positions = random_positions(model, 2)
    for snr_db in (np.nan, np.inf, -np.inf):
        with pytest.raises(wfx.ShapeError, match="snr_db"):
            wfx.position_error_bound(model, positions, snr_db)
        with pytest.raises(ValueError, match="snr_db: expected a finite"):
            dataset(model.synthesize(positions), model, positions).with_noise(snr_db)
    assert (wfx.position_error_bound(model, positions, 5000.0) == 0).all()
    assert not np.isfinite(wfx.position_error_bound(model, positions, -5000.0)).any()
    data = dataset(model.synthesize(positions), model, positions)
    np.testing.assert_array_equal(data.with_noise(5000.0).channels, data.channels)
    for snr_db in (-1000.0, -1e4):
        with pytest.raises(ValueError, match="snr_db: noise at"):
            data.with_noise(snr_db)


def test_datasets_do_not_take_what_they_cannot_hold() -> None:
    model = plane_wave_model(0, extent=1.0)
    positions = random_positions(model, 2)
    huge = model.synthesize(positions).astype(np.complex128) * 1e300
    with pytest.raises(wfx.DataError, match=r"channels: .* not finite"):
        dataset(huge, model, positions)
    queries = wfx.ChannelDataset(huge, model.antenna_positions, model.frequencies)
    assert (wfx.Localizer(model).locate(queries.channels).status == Status.INVALID_INPUT).all()
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(wfx.DataError, match="frequencies"):
            wfx.ChannelDataset(queries.channels, model.antenna_positions, np.full(12, bad))


@pytest.mark.parametrize(
    "case", ["1e-41", "1e-30", "1e30", "repeated", "one_place", "one_frequency", "unsorted", "a_zero"]
)
def test_fit_takes_hostile_data(case: str) -> None:
    pytest.importorskip("torch")
    scene = wfx.Scene.named("plaza").with_(antennas=4, subcarriers=4, max_bounces=0)
    data = wfx.simulate(scene, n=24)
    pick = {"repeated": [0, 0, 1, 1], "one_place": [0] * 4}.get(case, [0, 1, 2, 3])
    tones = {"one_frequency": [0] * 4, "unsorted": [2, 0, 3, 1]}.get(case, [0, 1, 2, 3])
    channels = data.channels[:, pick][:, :, tones]
    if case[0].isdigit():
        channels = (channels / np.abs(channels).max()).astype(np.complex128) * float(case)
    if case == "a_zero":
        channels[3] = 0
    hostile = wfx.ChannelDataset(channels, data.antenna_positions[pick], data.frequencies[tones], data.positions)
    model = wfx.fit(hostile, "planar", epochs=1, max_sources=2, max_atoms=8, hidden=(8,), progress=False)
    assert np.isfinite(model.validation_nmse)
    with contextlib.suppress(wfx.DataError):  # four antennas and tones at 22 places need not be enough
        assert np.isfinite(wfx.fit(hostile, "spherical", max_rounds=1, progress=False).validation_nmse)
    assert np.isfinite(model.synthesize(data.positions)).all()
    assert model.synthesize(data.positions).any()


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-3, 1e12, 1e30, 1e290])
def test_frequencies_of_any_scale_have_an_answer(scale: float) -> None:
    model = wfx.ChannelModel.from_bytes(spherical_file(frequencies=lambda f: f * scale).data)
    positions = random_positions(model, 3 if scale < 1.0 else 1)  # a search that finds nothing takes a second
    channels, jacobian = model.synthesize(positions, jacobian=True)
    fixes = wfx.Localizer(model).locate(channels)
    refined = wfx.refine(model, channels, positions)
    bound = wfx.position_error_bound(model, positions, 10.0)
    defined = scale <= 1e12  # paths of more than 5e14 cycles have none that a number could tell
    for answer in (channels, jacobian, fixes.position, refined.position, bound):
        assert np.isfinite(answer).all() == defined
        assert np.isfinite(answer).any() == defined
    if defined:  # whatever the phases
        assert (fixes.status != Status.INVALID_INPUT).all()
        original = wfx.ChannelModel.from_bytes(spherical_file().data).synthesize(positions)
        assert np.abs(channels).max() < 4 * np.abs(original).max()
    else:
        assert (fixes.status == Status.INVALID_INPUT).all()
        assert not refined.converged.any()
    data = dataset(np.where(defined, channels, 1), model, positions)
    with np.errstate(over="ignore"):
        far = wfx.ChannelDataset(data.channels, data.antenna_positions * 1e30, data.frequencies, positions * 1e300)
    np.testing.assert_array_equal(far.positions, positions * 1e300)


def test_an_evaluation_of_nothing_says_so() -> None:
    model = plane_wave_model(0, extent=1.0)
    positions = random_positions(model, 3)
    silent = dataset(np.zeros((3, 8, 12), np.complex64), model, positions)
    (method,) = wfx.evaluate(model, silent, localizers=["float_fix"]).methods
    assert method.summary.median == np.inf
    assert method.status_share == {"invalid_input": 1.0}
    with pytest.raises(wfx.DataError, match="not finite"):
        dataset(np.full((3, 8, 12), np.nan, np.complex64), model, positions)
