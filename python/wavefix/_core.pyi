import numpy as np
from numpy.typing import NDArray

__version__: str

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
