// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>

#include "stages.hpp"
#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/version.hpp"

namespace py = pybind11;

namespace wavefix::bindings {
namespace {

void bind_errors(py::module_& m) {
  // Never released: a static py::object would be destroyed after the interpreter.
  static PyObject *error, *shape_error, *model_format_error, *data_error;
  const auto make = [](const char* name, const char* doc, const py::tuple& bases) {
    return PyErr_NewExceptionWithDoc(name, doc, bases.ptr(), nullptr);
  };
  error = make("wavefix.Error", "Root of every exception that wavefix raises on its own account.",
               py::make_tuple(py::handle(PyExc_Exception)));
  const py::handle root(error);
  shape_error =
      make("wavefix.ShapeError", "An array has the wrong shape.", py::make_tuple(root, py::handle(PyExc_ValueError)));
  model_format_error =
      make("wavefix.ModelFormatError", "A model file cannot be read or is not one.", py::make_tuple(root));
  data_error = make("wavefix.DataError", "The values of a scene or of a dataset cannot be used.", py::make_tuple(root));
  m.attr("Error") = py::handle(error);
  m.attr("ShapeError") = py::handle(shape_error);
  m.attr("ModelFormatError") = py::handle(model_format_error);
  m.attr("DataError") = py::handle(data_error);

  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const Interrupted&) {
      // the signal handler has raised KeyboardInterrupt (or the caller's own exception) already
      if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
    } catch (const ShapeError& e) {
      PyErr_SetString(shape_error, e.what());
    } catch (const ModelFormatError& e) {
      PyErr_SetString(model_format_error, e.what());
    } catch (const DataError& e) {
      PyErr_SetString(data_error, e.what());
    } catch (const Error& e) {
      PyErr_SetString(error, e.what());
    }
  });
}

}  // namespace
}  // namespace wavefix::bindings

PYBIND11_MODULE(_core, m) {
  m.doc() = "C++ core of wavefix.";
  m.attr("__version__") = WAVEFIX_VERSION;
  m.attr("openmp") = wavefix::has_openmp();
  m.def(
      "max_threads", [] { return wavefix::thread_count(std::numeric_limits<std::size_t>::max(), 0); },
      "Threads that a large batch runs on by default.");
  m.def("kernel_level", &wavefix::kernel_level,
        "Instruction set of the inner loops; the environment variable WAVEFIX_KERNELS forces one.");
  m.def("kernel_levels", &wavefix::kernel_levels, "Those that this processor can run, the best last.");
  wavefix::bindings::bind_errors(m);
  wavefix::bindings::bind_propagation(m);
  wavefix::bindings::bind_channel_model(m);
  wavefix::bindings::bind_dictionary(m);
  wavefix::bindings::bind_refine(m);
  wavefix::bindings::bind_localizer(m);
  wavefix::bindings::bind_source_fit(m);
}
