// SPDX-License-Identifier: Apache-2.0
// The C interface: translates arguments, structs and errors; computes nothing.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "wavefix/channel_model.hpp"
#include "wavefix/error.hpp"
#include "wavefix/localizer.hpp"
#include "wavefix/parallel.hpp"
#include "wavefix/version.hpp"
#include "wavefix/wavefix.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define WAVEFIX_PTHREADS
#endif

struct wavefix_model {
  wavefix::ChannelModel model;
};

struct wavefix_localizer {
  wavefix::Localizer localizer;
  std::size_t n_antennas, n_subcarriers, model_bytes;
};

namespace wavefix {
namespace {

thread_local char message[1024] = "";  // of fixed size: nothing to allocate while memory is short, nothing to destroy

/// A misuse of the C interface itself.
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

wavefix_code failed(wavefix_code code, const char* what) noexcept {
  std::snprintf(message, sizeof message, "%s", what);
  return code;
}

/// A thread that its host cancels is unwound, which nothing here would let pass: it ends after the call.
struct NotCancelled {
#if defined(WAVEFIX_PTHREADS)
  NotCancelled() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  NotCancelled(const NotCancelled&) = delete;
  NotCancelled& operator=(const NotCancelled&) = delete;
  ~NotCancelled() { pthread_setcancelstate(before_, nullptr); }
  int before_ = 0;
#else
  NotCancelled() {}
#endif
};

/// Runs `body`; whatever it throws becomes a code and a message.
template <class Body>
wavefix_code guarded(const Body& body) noexcept {
  const NotCancelled not_cancelled;
  message[0] = '\0';
  try {
    body();
    return WAVEFIX_OK;
  } catch (const ArgumentError& error) {
    return failed(WAVEFIX_ARGUMENT_ERROR, error.what());
  } catch (const ShapeError& error) {
    return failed(WAVEFIX_SHAPE_ERROR, error.what());
  } catch (const ModelFormatError& error) {
    return failed(WAVEFIX_FORMAT_ERROR, error.what());
  } catch (const DataError& error) {
    return failed(WAVEFIX_DATA_ERROR, error.what());
  } catch (const Interrupted& error) {
    return failed(WAVEFIX_INTERRUPTED, error.what());
  } catch (const Error& error) {
    return failed(WAVEFIX_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return failed(WAVEFIX_OUT_OF_MEMORY, "out of memory");
  } catch (const std::length_error&) {
    return failed(WAVEFIX_OUT_OF_MEMORY, "out of memory: more than can be addressed");
  } catch (const std::exception& error) {
    return failed(WAVEFIX_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(WAVEFIX_INTERNAL_ERROR, "an exception of unknown type");
  }
}

void require_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) throw ArgumentError(std::string(name) + " is NULL");
}

// Bytes of each struct when it was first released. Fields that come later start behind them.
template <class T>
constexpr std::size_t first_size = sizeof(T);
template <>
constexpr std::size_t first_size<wavefix_localizer_options> = offsetof(wavefix_localizer_options, coarse_spacing);
template <>
constexpr std::size_t first_size<wavefix_fixes> = offsetof(wavefix_fixes, float_position);

constexpr std::size_t largest_struct = 4096;  // a struct_size beyond it was never set

template <class T>
void require_size(const T* given, const char* name) {
  require_pointer(given, name);
  const std::size_t size = given->struct_size;
  if (size >= first_size<T> && size <= largest_struct) return;
  throw ArgumentError(std::string(name) + ".struct_size is " + std::to_string(size) + ", expected sizeof " + name +
                      ", " + std::to_string(sizeof(T)));
}

/// The caller's struct over `result`, which holds the defaults of the fields that an older caller does not know.
template <class T>
T read_struct(const T* given, const char* name, T result) {
  require_size(given, name);
  const std::size_t size = given->struct_size;
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t index = sizeof(T); index < size; ++index) {
    if (bytes[index] != 0) {
      throw ArgumentError(std::string(name) + " sets a field that wavefix " WAVEFIX_VERSION " does not know");
    }
  }
  std::memcpy(&result, given, std::min(size, sizeof(T)));
  return result;
}

/// As much of `filled` as the caller's struct has room for; zeros in what only a newer library could fill.
template <class T>
void write_struct(T* given, const char* name, T filled) {
  require_size(given, name);
  const std::size_t size = given->struct_size;
  filled.struct_size = size;
  std::memset(static_cast<void*>(given), 0, size);
  std::memcpy(given, &filled, std::min(size, sizeof(T)));
}

int int_of(std::size_t value) {  // what is out of range here is out of the option's range as well
  return static_cast<int>(std::min(value, static_cast<std::size_t>(std::numeric_limits<int>::max())));
}

Execution execution_of(const wavefix_execution* given) {
  Execution execution;
  if (given == nullptr) return execution;
  const auto options = read_struct(given, "wavefix_execution", wavefix_execution{});
  execution.threads = int_of(options.threads);
  if (options.interrupt != nullptr) {
    execution.interrupt = [options] { return options.interrupt(options.state) != 0; };
  }
  return execution;
}

wavefix_localizer_options default_options() {
  // for ever: the caller gets a pointer to the strategy's name, and may still call while the program ends
  static const LocalizerOptions& defaults = *new LocalizerOptions;
  wavefix_localizer_options options{};
  options.struct_size = sizeof options;
  options.strategy = defaults.strategy.c_str();
  options.grid_spacing = defaults.grid_spacing;
  options.starts = static_cast<std::size_t>(defaults.starts);
  options.local_radius = defaults.local_radius;
  options.local_spacing = defaults.local_spacing;
  options.circles = static_cast<std::size_t>(defaults.circles);
  options.circle_spacing = defaults.circle_spacing;
  options.poor_fit_factor = defaults.poor_fit_factor;
  options.ambiguity_threshold = defaults.ambiguity_threshold;
  options.region_margin = defaults.region_margin;
  options.memory_limit = defaults.memory_limit;
  options.max_iterations = static_cast<std::size_t>(defaults.refine.max_iterations);
  options.initial_damping = defaults.refine.initial_damping;
  options.max_step = defaults.refine.max_step;
  options.tolerance = defaults.refine.tolerance;
  options.coarse_spacing = defaults.coarse_spacing;
  options.coarse_starts = static_cast<std::size_t>(defaults.coarse_starts);
  options.candidate_spacing = defaults.candidate_spacing;
  options.candidate_radius = defaults.candidate_radius;
  options.max_candidates = static_cast<std::size_t>(defaults.max_candidates);
  options.minima = static_cast<std::size_t>(defaults.minima);
  options.finalists = static_cast<std::size_t>(defaults.finalists);
  return options;
}

LocalizerOptions options_of(const wavefix_localizer_options* given) {
  LocalizerOptions options;
  if (given == nullptr) return options;
  const auto from = read_struct(given, "wavefix_localizer_options", default_options());
  require_pointer(from.strategy, "wavefix_localizer_options.strategy");
  options.strategy = from.strategy;
  options.grid_spacing = from.grid_spacing;
  options.starts = int_of(from.starts);
  options.local_radius = from.local_radius;
  options.local_spacing = from.local_spacing;
  options.circles = int_of(from.circles);
  options.circle_spacing = from.circle_spacing;
  options.poor_fit_factor = from.poor_fit_factor;
  options.ambiguity_threshold = from.ambiguity_threshold;
  options.region_margin = from.region_margin;
  options.memory_limit = from.memory_limit;
  options.refine.max_iterations = int_of(from.max_iterations);
  options.refine.initial_damping = from.initial_damping;
  options.refine.max_step = from.max_step;
  options.refine.tolerance = from.tolerance;
  options.coarse_spacing = from.coarse_spacing;
  options.coarse_starts = int_of(from.coarse_starts);
  options.candidate_spacing = from.candidate_spacing;
  options.candidate_radius = from.candidate_radius;
  options.max_candidates = int_of(from.max_candidates);
  options.minima = int_of(from.minima);
  options.finalists = int_of(from.finalists);
  return options;
}

Execution planning_of(const wavefix_localizer_options* given) {
  return execution_of(given == nullptr ? nullptr : read_struct(given, "wavefix_localizer_options", {}).planning);
}

/// No array of the caller can have `n` rows of this many bytes; and products of sizes cannot overflow below.
void require_rows(std::size_t n, std::size_t bytes_of_a_row) {
  if (n > std::numeric_limits<std::size_t>::max() / 2 / bytes_of_a_row) {
    throw ShapeError("n: " + std::to_string(n) + " rows are more than memory can hold");
  }
}

/// A view of the caller's array, or of `spare` where the caller does not want it.
template <class T, std::size_t N>
View<T, N> output(T* given, std::vector<T>& spare, std::array<std::size_t, N> shape) {
  const View<T, N> view(given, shape);
  if (given != nullptr) return view;
  spare.resize(view.size());
  return View<T, N>(spare.data(), shape);
}

const cfloat* complex_of(const float* values) { return reinterpret_cast<const cfloat*>(values); }
cfloat* complex_of(float* values) { return reinterpret_cast<cfloat*>(values); }

}  // namespace
}  // namespace wavefix

using namespace wavefix;  // NOLINT: below are only the functions of the header

extern "C" {

const char* wavefix_version(void) { return WAVEFIX_VERSION; }

const char* wavefix_message(void) { return message; }

wavefix_code wavefix_model_load(const char* path, wavefix_model** model) {
  return guarded([&] {
    require_pointer(model, "model");
    *model = nullptr;
    require_pointer(path, "path");
    *model = new wavefix_model{ChannelModel::load(path)};
  });
}

wavefix_code wavefix_model_from_bytes(const void* data, size_t size, wavefix_model** model) {
  return guarded([&] {
    require_pointer(model, "model");
    *model = nullptr;
    require_pointer(data, "data");
    *model = new wavefix_model{ChannelModel::from_bytes(data, size)};
  });
}

void wavefix_model_free(wavefix_model* model) { delete model; }

wavefix_code wavefix_model_describe(const wavefix_model* model, wavefix_description* description) {
  return guarded([&] {
    require_pointer(model, "model");
    const ChannelModel& channel_model = model->model;
    const Region& region = channel_model.region();
    wavefix_description filled{};
    filled.kind = channel_model.kind().c_str();
    filled.n_antennas = channel_model.n_antennas();
    filled.n_subcarriers = channel_model.n_subcarriers();
    filled.n_atoms = channel_model.n_atoms();
    filled.bytes = channel_model.bytes();
    filled.antenna_positions = channel_model.antenna_positions().data();
    filled.frequencies = channel_model.frequencies().data();
    filled.wavelength = channel_model.wavelength();
    filled.validation_nmse = channel_model.validation_nmse();
    filled.region_dimension = region.dimension();
    filled.region_origin = region.origin.data();
    filled.region_basis = region.basis.data();
    filled.region_lower = region.lower.data();
    filled.region_upper = region.upper.data();
    write_struct(description, "wavefix_description", filled);
  });
}

const char* wavefix_model_metadata(const wavefix_model* model, const char* key) {
  if (model == nullptr || key == nullptr) return nullptr;
  for (const auto& [name, value] : model->model.metadata()) {  // no copy of the key: nothing here can throw
    if (name == key) return value.c_str();
  }
  return nullptr;
}

wavefix_code wavefix_synthesize(const wavefix_model* model, size_t n, const double* positions, float* channels,
                                float* jacobian, const wavefix_execution* execution) {
  return guarded([&] {
    require_pointer(model, "model");
    const Execution options = execution_of(execution);
    if (n == 0) return;
    require_pointer(positions, "positions");
    require_pointer(channels, "channels");
    const std::size_t a = model->model.n_antennas(), k = model->model.n_subcarriers();
    require_rows(n, 3 * sizeof(cfloat) * a * k);
    model->model.synthesize({positions, {n, 3}}, {complex_of(channels), {n, a, k}},
                            {complex_of(jacobian), {n, 3, a, k}}, options);
  });
}

wavefix_code wavefix_localizer_defaults(wavefix_localizer_options* options) {
  return guarded([&] { write_struct(options, "wavefix_localizer_options", default_options()); });
}

wavefix_code wavefix_localizer_create(const wavefix_model* model, const wavefix_localizer_options* options,
                                      wavefix_localizer** localizer) {
  return guarded([&] {
    require_pointer(localizer, "localizer");
    *localizer = nullptr;
    require_pointer(model, "model");
    *localizer = new wavefix_localizer{Localizer(model->model, options_of(options), planning_of(options)),
                                       model->model.n_antennas(), model->model.n_subcarriers(), model->model.bytes()};
  });
}

void wavefix_localizer_free(wavefix_localizer* localizer) { delete localizer; }

wavefix_code wavefix_locate(const wavefix_localizer* localizer, const float* channels, size_t n, size_t n_antennas,
                            size_t n_subcarriers, const wavefix_fixes* fixes, const wavefix_execution* execution) {
  return guarded([&] {
    require_pointer(localizer, "localizer");
    const Execution options = execution_of(execution);
    const auto wanted = read_struct(fixes, "wavefix_fixes", wavefix_fixes{});
    const std::array<std::size_t, 2> given{n_antennas, n_subcarriers};
    const std::array<std::size_t, 2> expected{localizer->n_antennas, localizer->n_subcarriers};
    if (given != expected) throw_shape("n_antennas, n_subcarriers", shape_text(expected), shape_text(given));
    if (n == 0) return;
    require_pointer(channels, "channels");
    const auto entries = 8 * static_cast<std::size_t>(localizer->localizer.options().starts);  // of the dictionary
    require_rows(n, std::max({sizeof(cfloat) * n_antennas * n_subcarriers, 16 * entries, 9 * sizeof(double)}));
    std::vector<double> position, covariance, residual, ambiguity;
    std::vector<std::uint8_t> status;
    Fixes out;
    out.position = output<double, 2>(wanted.position, position, {n, 3});
    out.covariance = output<double, 3>(wanted.covariance, covariance, {n, 3, 3});
    out.status = output<std::uint8_t, 1>(wanted.status, status, {n});
    out.residual = output<double, 1>(wanted.residual, residual, {n});
    out.ambiguity = output<double, 1>(wanted.ambiguity, ambiguity, {n});
    if (wanted.float_position != nullptr) out.float_position = {wanted.float_position, {n, 3}};
    localizer->localizer.locate({complex_of(channels), {n, n_antennas, n_subcarriers}}, out, options);
  });
}

size_t wavefix_localizer_bytes(const wavefix_localizer* localizer, size_t n_queries) {
  return localizer == nullptr ? 0 : localizer->model_bytes + localizer->localizer.bytes(n_queries);
}

}  // extern "C"
