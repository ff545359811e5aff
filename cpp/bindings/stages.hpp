// SPDX-License-Identifier: Apache-2.0
// One binding function a stage, in the order of the dependency line.
#pragma once

#include <pybind11/pybind11.h>

namespace wavefix::bindings {

void bind_propagation(pybind11::module_& m);
void bind_channel_model(pybind11::module_& m);
void bind_dictionary(pybind11::module_& m);
void bind_refine(pybind11::module_& m);
void bind_localizer(pybind11::module_& m);
void bind_source_fit(pybind11::module_& m);

}  // namespace wavefix::bindings
