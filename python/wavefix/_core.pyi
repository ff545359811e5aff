import enum

import numpy as np
from numpy.typing import NDArray

__version__: str
openmp: bool

def max_threads() -> int: ...
def kernel_level() -> str: ...
def kernel_levels() -> list[str]: ...

class Error(Exception): ...
class ShapeError(Error, ValueError): ...
class ModelFormatError(Error): ...
class DataError(Error): ...

class PropagationScene:
    def __init__(
        self,
        corners: list[NDArray[np.float64]],
        materials: list[tuple[float, float, float]],
        antenna_positions: NDArray[np.float64],
        carrier: float,
        bandwidth: float,
        subcarriers: int,
        max_bounces: int,
    ) -> None: ...
    @property
    def frequencies(self) -> NDArray[np.float64]: ...
    def simulate(
        self, positions: NDArray[np.float64], threads: int = 0
    ) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]: ...
    def trace(
        self, position: tuple[float, float, float]
    ) -> list[tuple[list[int], NDArray[np.float64], NDArray[np.complex128]]]: ...

def reflection(
    relative_permittivity: float, conductivity: float, thickness: float, frequency: float, cos_incidence: float
) -> tuple[complex, complex]: ...
def transmission(
    relative_permittivity: float, conductivity: float, thickness: float, frequency: float, cos_incidence: float
) -> tuple[complex, complex]: ...

MAX_MODEL_BYTES: int

class Region:
    def __getstate__(self) -> tuple[list[float], list[float], list[float], list[float]]: ...
    def __setstate__(self, arg0: tuple[list[float], list[float], list[float], list[float]]) -> None: ...
    @property
    def origin(self) -> NDArray[np.float64]: ...
    @property
    def basis(self) -> NDArray[np.float64]: ...
    @property
    def lower(self) -> NDArray[np.float64]: ...
    @property
    def upper(self) -> NDArray[np.float64]: ...

class ChannelModel:
    @staticmethod
    def from_bytes(data: bytes) -> ChannelModel: ...
    @property
    def kind(self) -> str: ...
    @property
    def n_antennas(self) -> int: ...
    @property
    def n_subcarriers(self) -> int: ...
    @property
    def n_atoms(self) -> int: ...
    @property
    def wavelength(self) -> float: ...
    @property
    def validation_nmse(self) -> float: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def region(self) -> Region: ...
    @property
    def antenna_positions(self) -> NDArray[np.float64]: ...
    @property
    def frequencies(self) -> NDArray[np.float64]: ...
    def synthesize(
        self, positions: NDArray[np.float64], out: NDArray[np.complex64] | None = None, threads: int = 0
    ) -> NDArray[np.complex64]: ...
    def synthesize_with_jacobian(
        self,
        positions: NDArray[np.float64],
        out: NDArray[np.complex64] | None = None,
        out_jacobian: NDArray[np.complex64] | None = None,
        threads: int = 0,
    ) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]: ...

class Dictionary:
    @staticmethod
    def from_measurements(
        positions: NDArray[np.float64], channels: NDArray[np.complex64], subspace: bool = True
    ) -> Dictionary: ...
    @staticmethod
    def from_model(model: ChannelModel, spacing: float, memory_limit: int = ...) -> Dictionary: ...
    def search(
        self, queries: NDArray[np.complex64], similarity: str, k: int, threads: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
    def positions(self, indices: NDArray[np.int64]) -> NDArray[np.float64]: ...
    def search_bytes(self, n_queries: int) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def n_antennas(self) -> int: ...
    @property
    def n_subcarriers(self) -> int: ...
    def __len__(self) -> int: ...

class RefineOptions:
    def __init__(self) -> None: ...
    max_iterations: int
    initial_damping: float
    max_step: float
    tolerance: float

def refine(
    model: ChannelModel,
    channels: NDArray[np.complex64],
    starts: NDArray[np.float64],
    options: RefineOptions,
    threads: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intc]]: ...
def position_error_bound(
    model: ChannelModel, positions: NDArray[np.float64], snr_db: float, threads: int = 0
) -> NDArray[np.float64]: ...

class Status(enum.IntEnum):
    OK = 0
    AMBIGUOUS = 1
    POOR_FIT = 2
    OUTSIDE_REGION = 3
    INVALID_INPUT = 4

class LocalizerOptions:
    def __init__(self) -> None: ...
    strategy: str
    coarse_spacing: float
    coarse_starts: int
    candidate_spacing: float
    candidate_radius: float
    max_candidates: int
    minima: int
    finalists: int
    grid_spacing: float
    starts: int
    local_radius: float
    local_spacing: float
    circles: int
    circle_spacing: float
    poor_fit_factor: float
    ambiguity_threshold: float
    region_margin: float
    memory_limit: int
    refine: RefineOptions

class Localizer:
    def __init__(self, model: ChannelModel, options: LocalizerOptions) -> None: ...
    def locate(
        self, n_antennas: int, n_subcarriers: int, channels: NDArray[np.complex64], out: object, threads: int = 0
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.uint8],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
    ]: ...
    @property
    def options(self) -> LocalizerOptions: ...
    def nbytes(self, n_queries: int) -> int: ...

class SourceRefineOptions:
    def __init__(self) -> None: ...
    iterations: int
    damping: float
    least_gain: float
    seconds: float

def source_accumulate(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_positions: NDArray[np.float64],
    source_rotations: NDArray[np.float64],
    amplitudes: NDArray[np.complex64],
    channels: NDArray[np.complex64],
    threads: int = 0,
) -> None: ...
def source_project(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_positions: NDArray[np.float64],
    source_rotations: NDArray[np.float64],
    channels: NDArray[np.complex64],
    threads: int = 0,
) -> NDArray[np.complex64]: ...
def source_refine(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_positions: NDArray[np.float64],
    source_rotations: NDArray[np.float64],
    variables: NDArray[np.float64],
    coefficients: NDArray[np.complex128],
    gate_lines: NDArray[np.float64],
    gate_line_cell: NDArray[np.int32],
    gate_cell_source: NDArray[np.int32],
    terms: NDArray[np.int32],
    channels: NDArray[np.complex64],
    factors: NDArray[np.float64] | None,
    middle: NDArray[np.float64],
    reference_frequency: float,
    options: SourceRefineOptions,
    threads: int = 0,
) -> float: ...
def source_scores(
    positions: NDArray[np.float64],
    values: NDArray[np.complex64],
    candidates: NDArray[np.float64],
    frequency: float,
    threads: int = 0,
) -> NDArray[np.float64]: ...
def source_terms(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_positions: NDArray[np.float64],
    source_rotations: NDArray[np.float64],
    variables: NDArray[np.float64],
    coefficients: NDArray[np.complex128],
    gate_lines: NDArray[np.float64],
    gate_line_cell: NDArray[np.int32],
    gate_cell_source: NDArray[np.int32],
    basis: bool = True,
    threads: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.complex64]]: ...
def source_grow_gate(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_position: NDArray[np.float64],
    source_rotation: NDArray[np.float64],
    lines: list[list[float]],
    leaves: list[list[int]],
    wanted: NDArray[np.float32],
    weight: NDArray[np.float32],
    least_gain: float,
    most_lines: int,
    number_worth: float = ...,
    threads: int = 0,
) -> tuple[list[list[float]], list[list[int]]]: ...
def source_normal_equations(
    positions: NDArray[np.float64],
    offsets: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    source_positions: NDArray[np.float64],
    source_rotations: NDArray[np.float64],
    basis: NDArray[np.float32],
    terms: NDArray[np.int32],
    amplitudes: NDArray[np.complex64],
    residual: NDArray[np.complex64],
    middle: NDArray[np.float64],
    reference_frequency: float,
    threads: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
