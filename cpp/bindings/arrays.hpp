// SPDX-License-Identifier: Apache-2.0
// The Python boundary: validate, take a view (no copy, no silent conversion), release the GIL, compute, return.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix::bindings {

namespace py = pybind11;

inline constexpr std::size_t any_extent = static_cast<std::size_t>(-1);

template <std::size_t N>
std::string expected_text(const std::array<std::size_t, N>& shape) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < N; ++axis) {
    text += axis ? ", " : "";
    text += shape[axis] == any_extent ? "n" : std::to_string(shape[axis]);
  }
  return text + (N == 1 ? ",)" : ")");
}

inline std::string got_text(const py::array& array) {
  std::string text = "(";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(array.shape(axis));
  }
  return text + (array.ndim() == 1 ? ",)" : ")");
}

template <class T>
std::string dtype_name() {
  return py::str(py::dtype::of<T>()).cast<std::string>();
}

/// The array behind `object`, exactly of type T, C-contiguous and of the given shape (any_extent: any size).
/// TypeError names the argument, what was expected and what came; ShapeError likewise.
template <class T, std::size_t N>
View<T, N> view_of(const py::object& object, const char* argument, const std::array<std::size_t, N>& shape) {
  using Value = std::remove_const_t<T>;
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(std::string(argument) + ": expected a numpy array of " + dtype_name<Value>() + ", got " +
                         py::str(py::type::of(object).attr("__name__")).cast<std::string>());
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!py::isinstance<py::array_t<Value>>(array)) {
    throw py::type_error(std::string(argument) + ": expected dtype " + dtype_name<Value>() + ", got " +
                         py::str(array.dtype()).cast<std::string>());
  }
  std::array<std::size_t, N> extents{};
  bool fits = array.ndim() == static_cast<py::ssize_t>(N);
  for (std::size_t axis = 0; fits && axis < N; ++axis) {
    extents[axis] = static_cast<std::size_t>(array.shape(static_cast<py::ssize_t>(axis)));
    fits = shape[axis] == any_extent || extents[axis] == shape[axis];
  }
  if (!fits) throw_shape(argument, "shape " + expected_text(shape), got_text(array));
  if (!(array.flags() & py::array::c_style)) {
    throw py::type_error(std::string(argument) + ": expected a C-contiguous array; numpy.ascontiguousarray makes one");
  }
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(Value) != 0) {
    throw py::type_error(std::string(argument) + ": expected an aligned array; numpy.require makes one");
  }
  if constexpr (!std::is_const_v<T>) {
    if (!array.writeable()) throw py::type_error(std::string(argument) + ": expected a writeable array");
  }
  return View<T, N>(static_cast<T*>(const_cast<void*>(array.data())), extents);
}

/// The caller's `out` if it was given (validated), a new array otherwise.
template <class T, std::size_t N>
std::pair<py::array, View<T, N>> output_array(const py::object& out, const char* argument,
                                              const std::array<std::size_t, N>& shape) {
  if (!out.is_none()) {
    auto view = view_of<T, N>(out, argument, shape);
    return {py::reinterpret_borrow<py::array>(out), view};
  }
  py::array_t<T> array(std::vector<py::ssize_t>(shape.begin(), shape.end()));
  return {array, View<T, N>(array.mutable_data(), shape)};
}

/// Memory of an argument.
struct Extent {
  const char* argument;
  const char* begin;
  std::size_t bytes;
};

template <class T, std::size_t N>
Extent extent_of(const char* argument, const View<T, N>& view) {
  return {argument, reinterpret_cast<const char*>(view.data), view.size() * sizeof(T)};
}

/// Rows are computed several at once and in any order: what one writes must not be what another reads or writes.
inline void require_apart(std::initializer_list<Extent> outputs, std::initializer_list<Extent> inputs) {
  const auto require = [](const Extent& one, const Extent& other) {
    // as numbers: pointers into different arrays have no order
    const auto a = reinterpret_cast<std::uintptr_t>(one.begin), b = reinterpret_cast<std::uintptr_t>(other.begin);
    if (a < b + other.bytes && b < a + one.bytes) {
      throw py::value_error(std::string(one.argument) + ": shares memory with " + other.argument);
    }
  };
  for (auto output = outputs.begin(); output != outputs.end(); ++output) {
    for (const Extent& input : inputs) require(*output, input);
    for (auto other = std::next(output); other != outputs.end(); ++other) require(*output, *other);
  }
}

/// A worker of a torch data loader has neighbors. torch tells them by omp_set_num_threads to stay on one thread, but
/// its OpenMP runtime need not be the one that this library was linked with.
inline bool in_data_loader_worker() {
  PyObject* const module = PyDict_GetItemString(PyImport_GetModuleDict(), "torch.utils.data");  // borrowed
  if (module == nullptr) return false;
  const py::handle loader(module);
  return py::hasattr(loader, "get_worker_info") && !loader.attr("get_worker_info")().is_none();
}

/// Runs `take_gil`. Up to 3.13, an interpreter that shuts down ends a daemon thread where it asks for the GIL, by
/// unwinding its stack; neither a destructor nor a catch (...) on the way survives that. Such a thread sleeps instead
/// until the process is gone, as it does in later versions.
template <class Function>
auto or_sleep_at_exit(const Function& take_gil) {
#if defined(__GLIBCXX__)
  try {
    return take_gil();
  } catch (const abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
#else
  return take_gil();
#endif
}

/// The GIL, released while this lives.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() {
    or_sleep_at_exit([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* state_;
};

/// Execution with `threads`, interrupted by Ctrl-C. Call with the GIL held, run the work with it released.
inline Execution execution_of(int threads) {
  if (threads < 0) throw py::value_error("threads: expected 0 (all) or more, got " + std::to_string(threads));
  Execution execution;
  execution.threads = threads == 0 && in_data_loader_worker() ? 1 : threads;
  using clock = std::chrono::steady_clock;
  execution.interrupt = [last = clock::now()]() mutable {
    const auto now = clock::now();
    if (now - last < std::chrono::milliseconds(50)) return false;  // taking the GIL costs more than a small item
    last = now;
    return or_sleep_at_exit([] {
      const py::gil_scoped_acquire gil;
      return PyErr_CheckSignals() != 0;
    });
  };
  return execution;
}

}  // namespace wavefix::bindings
