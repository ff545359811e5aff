# SPDX-License-Identifier: Apache-2.0
"""The image method against an oracle written from the equations, closed forms and invariants."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wavefix as wfx
from reference import propagation as oracle
from wavefix import _core
from wavefix.propagation import FreeArray, LinearArray, Material, Scene, UserRegion, Wall

C = 299792458.0
CARRIER = 3.5e9
WAVELENGTH = C / CARRIER
# complex64 rounds each entry at 6e-8; phases of 1e4 rad in float64 add 1e-12
SINGLE = 1e-6

repeated = settings(derandomize=True, deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)


def relative_error(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def upright(x0, y0, x1, y1, material, height=(-50.0, 50.0)):
    low, high = height
    return Wall(((x0, y0, low), (x1, y1, low), (x1, y1, high), (x0, y0, high)), material)


def scene_with(walls, antennas, **changes):
    materials = {
        "metal": Material(1.0, 1e12),
        "concrete": Material(5.24, 0.123),
        "sheet": Material(2.73, 0.0277, 0.08),
    }
    everywhere = UserRegion((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    values = {"walls": tuple(walls), "materials": materials, "subcarriers": 4, "max_bounces": 2} | changes
    return Scene(array=FreeArray(tuple(map(tuple, antennas))), region=everywhere, **values)


def channels_of(scene, positions):
    return wfx.simulate(scene, positions=positions, threads=1).channels


def random_points(seed, n, lower, upper):
    return np.random.default_rng(seed).uniform(lower, upper, (n, 3))


@pytest.mark.parametrize(("name", "antennas", "n"), [("box", 3, 6), ("room", 3, 3), ("plaza", 2, 3), ("canyon", 2, 2)])
def test_channels_match_the_oracle(name, antennas, n):
    scene = Scene.named(name).with_(subcarriers=5, antennas=antennas)
    data = wfx.simulate(scene, n, seed=1)
    expected, line_of_sight = oracle.channels(oracle.scene_of(scene), data.positions)
    for got, want in zip(data.channels, expected, strict=True):
        assert relative_error(got, want) <= SINGLE
    np.testing.assert_array_equal(data.line_of_sight, line_of_sight)


@repeated
@given(seed=seeds)
def test_free_space_is_the_closed_form(seed):
    antennas, users = random_points(seed, 3, -5, 5), random_points(seed + 1, 4, 10, 300)
    scene = scene_with([], antennas, subcarriers=1500, bandwidth=200e6)
    difference = users[:, None, :] - antennas
    d = np.linalg.norm(difference, axis=2)[..., None]
    sine_squared = 1 - (difference[..., 2:] / d) ** 2  # two vertical short dipoles
    expected = WAVELENGTH / (4 * np.pi * d) * sine_squared * np.exp(-2j * np.pi * scene.frequencies * d / C)
    got = channels_of(scene, users)
    assert np.max(np.abs(got - expected) / np.abs(expected)) <= SINGLE  # every entry, 1500 subcarriers on


def test_a_corner_of_two_walls_has_three_images():
    scene = scene_with([upright(0, 0, 50, 0, "metal"), upright(0, 0, 0, 50, "metal")], [(3.0, 2.0, 0.0)])
    paths = scene.paths((5.0, 7.0, 0.0))
    found = {path.order: [] for path in paths}
    for path in paths:
        found[path.order].append((*path.sources[0][:2], path.gains[0]))
    # horizontal rays on vertical walls are TE: a conductor turns the sign at each bounce
    gain = WAVELENGTH / (4 * np.pi)
    expected = {0: [(3, 2, gain)], 1: [(3, -2, -gain), (-3, 2, -gain)], 2: [(-3, -2, gain)]}
    for order, sources in expected.items():
        np.testing.assert_allclose(found[order], sources, rtol=1e-4)  # the metal's conductivity is finite
    assert set(found) == set(expected)


def test_conductor_limit_of_the_fresnel_coefficients():
    for cosine in (1.0, 0.7, 0.2):
        te, tm = _core.reflection(1.0, 1e14, 0.0, CARRIER, cosine)
        assert abs(te + 1) < 1e-5
        assert abs(tm - 1) < 1e-4


def test_no_parallel_reflection_at_the_brewster_angle():
    cosine = np.cos(np.arctan(np.sqrt(5.0)))
    te, tm = _core.reflection(5.0, 0.0, 0.0, CARRIER, cosine)
    assert abs(tm) < 1e-15
    assert te == pytest.approx((1 - 5) / (1 + 5))


@repeated
@given(st.floats(1, 80), st.floats(0, 10), st.floats(0.001, 1), st.floats(1e-3, 1))
def test_coefficients_match_the_oracle(permittivity, conductivity, thickness, cosine):
    material = (permittivity, conductivity, thickness)
    for got, want in (
        (_core.reflection(*material[:2], 0.0, CARRIER, cosine), oracle.reflection((*material[:2], 0), CARRIER, cosine)),
        (_core.reflection(*material, CARRIER, cosine), oracle.reflection(material, CARRIER, cosine)),
        (_core.transmission(*material, CARRIER, cosine), oracle.transmission(material, CARRIER, cosine)),
    ):
        # the oracle's sqrt(eta - sin^2) cancels at grazing incidence: 1e-16 / cosine^2
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@repeated
@given(st.floats(1, 80), st.floats(0.001, 1), st.floats(1e-2, 1))
def test_a_lossless_slab_keeps_the_power(permittivity, thickness, cosine):
    reflected = _core.reflection(permittivity, 0.0, thickness, CARRIER, cosine)
    transmitted = _core.transmission(permittivity, 0.0, thickness, CARRIER, cosine)
    for r, t in zip(reflected, transmitted, strict=True):
        assert abs(r) ** 2 + abs(t) ** 2 == pytest.approx(1, abs=1e-9)


def test_air_is_no_wall():
    assert np.allclose(_core.reflection(1.0, 0.0, 0.1, CARRIER, 0.4), 0, atol=1e-15)
    assert np.allclose(_core.transmission(1.0, 0.0, 0.1, CARRIER, 0.4), 1, atol=1e-12)
    assert _core.transmission(5.0, 0.1, 0.0, CARRIER, 0.4) == (0, 0)


def test_an_opaque_wall_blocks_and_a_slab_attenuates():
    user = [[8.0, 0.3, 0.1]]
    free = channels_of(scene_with([], [(0, 0, 0)]), user)
    blocked = wfx.simulate(scene_with([upright(4, -9, 4, 9, "concrete")], [(0, 0, 0)]), positions=user)
    behind = wfx.simulate(scene_with([upright(4, -9, 4, 9, "sheet")], [(0, 0, 0)]), positions=user)
    assert np.all(blocked.channels == 0)
    assert not blocked.line_of_sight[0]
    assert not behind.line_of_sight[0]
    ratio = behind.channels / free
    te, tm = _core.transmission(2.73, 0.0277, 0.08, CARRIER, 8 / np.linalg.norm(user))
    assert abs(te - tm) < 0.01  # nearly normal incidence
    np.testing.assert_allclose(ratio, te, rtol=0.01)


@repeated
@given(seed=seeds, angle=st.floats(-np.pi, np.pi), shift=st.tuples(*[st.floats(-100, 100)] * 3))
def test_turning_and_shifting_the_whole_scene_changes_nothing(seed, angle, shift):
    scene = Scene.named("box")
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def moved(points):
        return np.asarray(points) @ turn.T + shift

    other = scene.with_(
        walls=tuple(replace(wall, corners=tuple(map(tuple, moved(wall.corners)))) for wall in scene.walls),
        array=FreeArray(tuple(map(tuple, moved(scene.antenna_positions)))),
    )
    users = scene.sample(5, seed)
    # at 100 m the coordinates round at 1e-14 m, 1e-12 rad
    assert relative_error(channels_of(other, moved(users)), channels_of(scene, users)) <= SINGLE


@repeated
@given(seed=seeds)
def test_antenna_and_user_can_be_swapped(seed):
    one, other = random_points(seed, 2, (0.1, 0.1, 0.1), (3.9, 2.9, 2.4))
    scene = Scene.named("box")
    there = channels_of(scene.with_(array=FreeArray((tuple(one),))), other[None])
    back = channels_of(scene.with_(array=FreeArray((tuple(other),))), one[None])
    assert relative_error(there, back) <= SINGLE


@repeated
@given(seed=seeds)
def test_each_antenna_is_computed_on_its_own(seed):
    scene = Scene.named("box").with_(antennas=6)
    order = np.random.default_rng(seed).permutation(6)
    permuted = scene.with_(array=FreeArray(tuple(map(tuple, scene.antenna_positions[order]))))
    users = scene.sample(3, seed)
    np.testing.assert_array_equal(channels_of(permuted, users), channels_of(scene, users)[:, order])


@pytest.mark.parametrize("name", ["canyon", "room"])
def test_results_depend_on_neither_threads_nor_batch(name):
    scene = Scene.named(name).with_(antennas=4)
    users = scene.sample(40, 3)
    one = wfx.simulate(scene, positions=users, threads=1)
    two = wfx.simulate(scene, positions=users, threads=2)
    np.testing.assert_array_equal(one.channels, two.channels)
    np.testing.assert_array_equal(one.line_of_sight, two.line_of_sight)
    alone = np.concatenate([channels_of(scene, user[None]) for user in users])
    np.testing.assert_array_equal(one.channels, alone)


def test_paths_add_up_to_the_channel():
    scene = Scene.named("room").with_(antennas=4, subcarriers=6)
    user = scene.sample(1, 5)
    total = np.zeros((4, 6), dtype=np.complex128)
    for path in scene.paths(user[0]):
        d = np.linalg.norm(user[0] - path.sources, axis=1)[:, None]
        total += path.gains[:, None] * np.exp(-2j * np.pi * scene.frequencies * d / C) / d
    assert relative_error(channels_of(scene, user)[0], total) <= SINGLE


def test_what_the_named_scenes_promise():
    assert wfx.scenes() == ("box", "canyon", "plaza", "room")
    share = {}
    for name in ("plaza", "canyon", "room"):
        scene = Scene.named(name)
        assert scene.carrier == CARRIER
        assert scene.bandwidth == 50e6
        assert scene.subcarriers == 64
        data = wfx.simulate(scene.with_(antennas=4, subcarriers=2), 300)
        share[name] = data.line_of_sight.mean()
        power = 10 * np.log10(np.mean(np.abs(data.channels) ** 2, axis=(1, 2)))
        assert np.all((power > -100) & (power < -45))
        assert min(len(scene.with_(antennas=2).paths(x)) for x in data.positions[:100]) >= 4
    assert share["plaza"] == 1
    assert share["canyon"] == 0
    assert 0.4 < share["room"] < 0.9


def test_frequencies_and_array():
    scene = Scene.named("plaza").with_(antennas=5, subcarriers=8)
    np.testing.assert_allclose(np.diff(scene.frequencies), 50e6 / 8)
    assert scene.frequencies.mean() == pytest.approx(CARRIER, abs=1e-6)
    positions = scene.antenna_positions
    np.testing.assert_allclose(positions.mean(axis=0), scene.array.center, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(np.diff(positions, axis=0), axis=1), WAVELENGTH / 2)
    assert wfx.simulate(scene, 2).wavelength == pytest.approx(WAVELENGTH)


def test_positions_in_the_region():
    scene = Scene.named("plaza").with_(region_size=2.0)
    assert scene.region.size == (2.0, 2.0, 0.0)
    assert scene.with_(region_size=(1, 3)).region.size == (1.0, 3.0, 0.0)
    x = scene.sample(500, seed=7)
    np.testing.assert_array_equal(x, scene.sample(500, seed=7))
    assert not np.array_equal(x, scene.sample(500, seed=8))
    assert np.all(np.abs(x - scene.region.center) <= np.array([1, 1, 0]))
    assert np.all(np.ptp(x, axis=0)[:2] > 1.9)
    grid = scene.grid(0.5)
    assert grid.shape == (25, 3)
    np.testing.assert_allclose(np.unique(np.diff(np.unique(grid[:, 0]))), 0.5)


@pytest.mark.parametrize("name", ["box", "canyon", "plaza", "room"])
def test_scene_files_round_trip(tmp_path, name):
    scene = Scene.named(name)
    scene.save(tmp_path / "scene.json")
    assert Scene.load(tmp_path / "scene.json") == scene
    free = scene.with_(array=FreeArray(((0.0, 1.0, 2.0),)))
    assert Scene.from_dict(free.to_dict()) == free


def edited(path, value):
    """The box scene's dict with the entry at ``path`` set, or removed where the value is ``...``."""
    values = Scene.named("box").to_dict()
    values["walls"] = [dict(wall) for wall in values["walls"]]
    target = values
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return values


SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("speed",), 1, "scene: unknown speed"),
        (("array",), ..., "scene: missing array"),
        (("array", "axis"), ..., r"array: missing axis"),
        (("array", "axis"), [0, 0, 0], "array.axis: expected a direction"),
        (("array", "antennas"), 0, "array.antennas: expected a whole number, 1 or more, got 0"),
        (("array", "spacing"), -1, "array.spacing"),
        (("array",), [1], "array: expected names with values"),
        (("array",), {"positions": []}, "array.positions: expected shape"),
        (("walls", 2, "material"), "gold", r"walls\[2\].material: 'gold' is not"),
        (("walls", 2, "material"), 3, r"walls\[2\].material: expected text"),
        (("walls", 1, "corners"), SQUARE[:2], r"walls\[1\].corners: expected 3 or more, got 2"),
        (("walls", 1, "corners"), [[0, 0, 0], [1, 1, 1], [2, 2, 2]], r"walls\[1\].corners: the polygon has no area"),
        (("walls", 1, "corners"), [*SQUARE[:3], [0, 1, 0.1]], r"walls\[1\].corners: expected all corners in one plane"),
        (("walls", 1, "corners"), [*SQUARE[:3], [0.9, 0.5, 0]], r"walls\[1\].corners: expected a convex polygon"),
        (("walls", 1, "corners"), [*SQUARE, SQUARE[3]], r"walls\[1\].corners: two corners in a row"),
        (("walls", 1, "corners"), [*SQUARE[:3], [0, float("nan"), 0]], r"walls\[1\].corners: expected finite"),
        (("walls", 1, "corners"), [[0, 0, 0], [1, 0]], r"walls\[1\].corners: expected rows of one length"),
        (("walls", 1, "corners"), [["a", "b", "c"]], r"walls\[1\].corners: expected real numbers"),
        (("walls",), "none", "walls: expected a list"),
        (("materials", "brick", "relative_permittivity"), -2.0, "relative_permittivity: expected 1 or more"),
        (("materials", "brick", "relative_permittivity"), "x", "relative_permittivity: expected a number"),
        (("materials", "brick", "conductivity"), float("inf"), "conductivity: expected 0 or more"),
        (("materials", "plasterboard", "thickness"), 0.0, "thickness: expected meters, positive"),
        (("materials", "plasterboard", "thickness"), float("nan"), "thickness: expected meters"),
        (("region", "size"), [1, -1, 0], "region.size: expected lengths"),
        (("carrier",), 0.0, "carrier: expected hertz"),
        (("carrier",), "3.5 GHz", "carrier: expected a number"),
        (("bandwidth",), 8e9, "bandwidth: expected hertz"),
        (("subcarriers",), 0, "subcarriers: expected a whole number"),
        (("subcarriers",), 1.5, "subcarriers: expected a whole number"),
        (("max_bounces",), 9, "max_bounces: expected 0 to 8"),
        (("max_bounces",), True, "max_bounces: expected a whole number"),
        (("name",), 3, "name: expected text"),
    ],
)
def test_a_bad_scene_says_what_is_wrong(path, value, message):
    with pytest.raises(wfx.DataError, match=message):
        Scene.from_dict(edited(path, value))


def test_a_bad_scene_file_names_the_file(tmp_path):
    for content in (b"{", b"\xff\xfe", b"[]", b'{"walls": []}', b'{"array": {}, "region": {}}'):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(wfx.DataError, match=r"bad\.json: "):
            Scene.load(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError):
        Scene.load(tmp_path / "none.json")
    with pytest.raises(wfx.DataError, match="expected one of box, canyon, plaza, room, got 'moon'"):
        wfx.simulate("moon")


def test_bad_arguments_of_simulate():
    scene = Scene.named("box")
    with pytest.raises(wfx.ShapeError, match=r"positions: expected shape \(n, 3\), got \(3,\)"):
        wfx.simulate(scene, positions=[1, 2, 3])
    with pytest.raises(TypeError, match="positions: expected real numbers"):
        wfx.simulate(scene, positions=[[1, 2, 3j]])
    with pytest.raises(wfx.DataError, match="positions: expected finite"):
        wfx.simulate(scene, positions=[[1, 2, np.inf]])
    with pytest.raises(wfx.DataError, match="positions: expected at least one"):
        wfx.simulate(scene, positions=np.zeros((0, 3)))
    with pytest.raises(wfx.DataError, match="n: expected a whole number"):
        wfx.simulate(scene, 0)
    with pytest.raises(wfx.DataError, match=r"positions\[1\]: expected a distance to every antenna"):
        wfx.simulate(scene, positions=[[1, 1, 1], scene.antenna_positions[2]])
    with pytest.raises(ValueError, match="threads: expected 0"):
        wfx.simulate(scene, 2, threads=-1)
    with pytest.raises(TypeError, match="a Scene has no color"):
        scene.with_(color="red")
    with pytest.raises(wfx.DataError, match="this scene's array is a list"):
        scene.with_(array=FreeArray(((0.0, 0.0, 0.0),))).with_(antennas=3)
    with pytest.raises(wfx.DataError, match=r"array\.antennas"):
        scene.with_(array=LinearArray(0, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)))


def test_an_interrupt_stops_a_long_call():
    scene = Scene.named("room").with_(antennas=8, subcarriers=1)
    users = scene.sample(300_000)

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wfx.simulate(scene, positions=users)
        assert time.monotonic() - start < 4  # the whole call takes about 20 s
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_scene_file_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "scenes.md").read_text(encoding="utf-8")
    (tmp_path / "scene.json").write_text(text.split("```json")[1].split("```")[0])
    data = wfx.simulate(Scene.load(tmp_path / "scene.json"), 20)
    assert data.channels.shape == (20, 32, 64)
    assert 0 < data.line_of_sight.mean() < 1
