// SPDX-License-Identifier: Apache-2.0
#include "wavefix/channel_model.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <utility>

#include "channel_model_kinds.hpp"
#include "safetensors.hpp"
#include "untrapped.hpp"
#include "wavefix/error.hpp"

namespace wavefix {
namespace {

using safetensors::Dtype;

constexpr double farthest = 1e9;                           // m, of what can be searched
constexpr std::size_t max_entries = std::size_t{1} << 26;  // of one channel matrix

struct Kind {
  const char* name;
  ImplementationPointer (*read)(ModelCommon, TensorReader&);
};
constexpr Kind kinds[] = {{"planar", read_planar_model}, {"spherical", read_spherical_model}};

void require_metadata(const std::map<std::string, std::string>& metadata, const std::string& key,
                      const std::string& wanted) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw_model_format("metadata lacks \"" + key + "\": not a wavefix model");
  if (found->second != wanted) {
    throw_model_format("metadata \"" + key + "\": expected \"" + wanted + "\", got \"" + found->second + "\"");
  }
}

const Kind& kind_of(const std::map<std::string, std::string>& metadata) {
  const auto found = metadata.find("kind");
  if (found == metadata.end()) throw_model_format("metadata lacks \"kind\"");
  std::string known;
  for (const Kind& kind : kinds) {
    if (found->second == kind.name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw_model_format("unknown kind \"" + found->second + "\"; known kinds: " + known);
}

Region read_region(TensorReader& tensors) {
  Region region;
  const auto& origin = tensors.take("region.origin", Dtype::f64, {3}).values;
  std::copy(origin.begin(), origin.end(), region.origin.begin());
  const auto& basis = tensors.take("region.basis", Dtype::f64, {TensorReader::any, 3});
  const std::size_t dimension = basis.extent(0);
  if (dimension > 3) throw_model_format("region.basis: expected 1 to 3 rows, got " + std::to_string(dimension));
  region.basis = basis.values;
  require_orthonormal("region.basis", region.basis);
  region.lower = tensors.take("region.lower", Dtype::f64, {dimension}).values;
  region.upper = tensors.take("region.upper", Dtype::f64, {dimension}).values;
  for (const char* name : {"region.origin", "region.lower", "region.upper"}) {
    for (const double value : tensors.values(name)) {
      if (std::abs(value) > farthest) throw_model_format(std::string(name) + ": expected at most 1e9 m");
    }
  }
  for (std::size_t axis = 0; axis < dimension; ++axis) {
    if (region.lower[axis] > region.upper[axis]) {
      throw_model_format("region.lower is above region.upper along axis " + std::to_string(axis));
    }
  }
  return region;
}

ModelCommon read_common(const safetensors::File& file, TensorReader& tensors, std::size_t bytes) {
  ModelCommon common;
  common.metadata = file.metadata;
  common.bytes = bytes;
  common.antenna_positions = tensors.take("antenna_positions", Dtype::f64, {TensorReader::any, 3}).values;
  common.frequencies = tensors.take("frequencies", Dtype::f64, {TensorReader::any}).values;
  if (common.n_subcarriers() > max_entries / common.n_antennas()) {
    throw_model_format("a channel matrix of " + std::to_string(common.n_antennas()) + " x " +
                       std::to_string(common.n_subcarriers()) + " entries is more than is supported");
  }
  const auto [lowest, highest] = std::minmax_element(common.frequencies.begin(), common.frequencies.end());
  if (*lowest <= 0) throw_model_format("frequencies: expected positive values, got " + std::to_string(*lowest));
  common.center_frequency = *lowest / 2 + *highest / 2;
  common.wavelength = speed_of_light / common.center_frequency;
  common.region = read_region(tensors);
  common.validation_nmse = tensors.take("validation_nmse", Dtype::f64, {1}).values[0];
  if (common.validation_nmse < 0) throw_model_format("validation_nmse: expected a linear value of at least 0");
  return common;
}

template <std::size_t N>
void check_shape(const char* argument, const std::array<std::size_t, N>& got,
                 const std::array<std::size_t, N>& expected) {
  if (got != expected) throw_shape(argument, "shape " + shape_text(expected), shape_text(got));
}

}  // namespace

ChannelModel::Workspace::~Workspace() = default;

void throw_model_format(const std::string& what) { throw ModelFormatError("model file: " + what); }

void require_orthonormal(const std::string& name, const std::vector<double>& rows) {
  for (std::size_t first = 0; first + 3 <= rows.size(); first += 3) {
    for (std::size_t second = first; second + 3 <= rows.size(); second += 3) {
      double product = 0;
      for (std::size_t axis = 0; axis < 3; ++axis) product += rows[first + axis] * rows[second + axis];
      if (!(std::abs(product - (first == second ? 1 : 0)) <= 1e-6)) {
        throw_model_format(name + ": the rows are not orthonormal (rows " + std::to_string(first / 3) + " and " +
                           std::to_string(second / 3) + ")");
      }
    }
  }
}

const safetensors::Tensor& TensorReader::take(const std::string& name, Dtype dtype,
                                              const std::vector<std::size_t>& shape) {
  const auto found = file_.tensors.find(name);
  if (found == file_.tensors.end()) throw_model_format("tensor \"" + name + "\" is missing");
  const safetensors::Tensor& tensor = found->second;
  const auto text = [](Dtype type) { return type == Dtype::f32 ? "F32" : type == Dtype::f64 ? "F64" : "I32"; };
  if (tensor.dtype != dtype) {
    throw_model_format("tensor \"" + name + "\": expected dtype " + text(dtype) + ", got " + text(tensor.dtype));
  }
  const auto shape_of = [](const std::vector<std::size_t>& extents) {
    std::string list = "(";
    for (const std::size_t extent : extents) {
      list += (list.size() > 1 ? ", " : "") + (extent == any ? std::string("n") : std::to_string(extent));
    }
    return list + ")";
  };
  const bool fits = std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end(),
                               [](std::size_t want, std::size_t got) { return want == any ? got > 0 : want == got; });
  if (!fits) {
    throw_model_format("tensor \"" + name + "\": expected shape " + shape_of(shape) + ", got " +
                       shape_of(tensor.shape));
  }
  taken_.insert(name);
  return tensor;
}

void TensorReader::require_all_taken() const {
  for (const auto& [name, tensor] : file_.tensors) {
    if (!taken_.count(name)) throw_model_format("unexpected tensor \"" + name + "\"");
  }
}

ChannelModel::ChannelModel(std::shared_ptr<const Implementation> implementation)
    : implementation_(std::move(implementation)) {}

ChannelModel ChannelModel::from_bytes(const void* data, std::size_t size) {
  const Untrapped untrapped;
  const safetensors::File file = safetensors::parse(data, size);
  require_metadata(file.metadata, "format", "wavefix");
  require_metadata(file.metadata, "format_version", "1");
  require_metadata(file.metadata, "units", "m,s,Hz,rad");
  const Kind& kind = kind_of(file.metadata);
  TensorReader tensors(file);
  ModelCommon common = read_common(file, tensors, size);
  common.kind = kind.name;
  auto implementation = kind.read(std::move(common), tensors);
  tensors.require_all_taken();
  return ChannelModel(std::move(implementation));
}

ChannelModel ChannelModel::load(const std::string& path) {
  const auto unreadable = [&] {
    return Error("cannot read " + path + ": " + (errno != 0 ? std::strerror(errno) : "input error"));
  };
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw unreadable();
  const auto too_large = [&] { throw_model_format(path + " is larger than is supported"); };
  if (stream.seekg(0, std::ios::end) && stream.tellg() > std::streamoff(safetensors::max_file_bytes)) too_large();
  stream.clear();
  stream.seekg(0);
  stream.clear();  // what cannot be turned back was not turned forward either
  errno = 0;
  // In pieces, up to the limit: the size that a pipe or a device reports means nothing.
  std::vector<char> bytes;
  constexpr std::size_t piece = std::size_t{1} << 20;
  while (stream) {
    const std::size_t size = bytes.size();
    if (size > safetensors::max_file_bytes) too_large();
    bytes.resize(size + piece);
    stream.read(bytes.data() + size, static_cast<std::streamsize>(piece));
    bytes.resize(size + static_cast<std::size_t>(stream.gcount()));
  }
  if (stream.bad()) throw unreadable();
  try {
    return from_bytes(bytes.data(), bytes.size());
  } catch (const ModelFormatError& error) {
    throw ModelFormatError(path + ": " + error.what());
  }
}

const std::string& ChannelModel::kind() const { return implementation_->common.kind; }
std::size_t ChannelModel::n_antennas() const { return implementation_->common.n_antennas(); }
std::size_t ChannelModel::n_subcarriers() const { return implementation_->common.n_subcarriers(); }
std::size_t ChannelModel::n_atoms() const { return implementation_->n_atoms(); }
std::size_t ChannelModel::bytes() const { return implementation_->common.bytes; }
const std::vector<double>& ChannelModel::antenna_positions() const { return implementation_->common.antenna_positions; }
const std::vector<double>& ChannelModel::frequencies() const { return implementation_->common.frequencies; }
double ChannelModel::wavelength() const { return implementation_->common.wavelength; }
const Region& ChannelModel::region() const { return implementation_->common.region; }
double ChannelModel::validation_nmse() const { return implementation_->common.validation_nmse; }
const std::map<std::string, std::string>& ChannelModel::metadata() const { return implementation_->common.metadata; }

std::unique_ptr<ChannelModel::Workspace> ChannelModel::make_workspace() const {
  return implementation_->make_workspace();
}

void ChannelModel::synthesize_one(const double* position, cfloat* channel, cfloat* jacobian,
                                  Workspace& workspace) const {
  implementation_->synthesize(position, 1, channel, jacobian, workspace);
}

void ChannelModel::synthesize(View<const double, 2> positions, View<cfloat, 3> channels,
                              const Execution& execution) const {
  synthesize(positions, channels, View<cfloat, 4>(), execution);
}

void ChannelModel::synthesize(View<const double, 2> positions, View<cfloat, 3> channels, View<cfloat, 4> jacobian,
                              const Execution& execution) const {
  const Untrapped untrapped;
  const std::size_t count = positions.shape[0], antennas = n_antennas(), subcarriers = n_subcarriers();
  if (positions.shape[1] != 3) throw_shape("positions", "shape (n, 3)", shape_text(positions.shape));
  check_shape<3>("channels", channels.shape, {count, antennas, subcarriers});
  const bool with_jacobian = jacobian.data != nullptr;
  if (with_jacobian) check_shape<4>("jacobian", jacobian.shape, {count, 3, antennas, subcarriers});
  for (std::size_t index = 0; index < positions.size(); ++index) {
    if (!std::isfinite(positions.data[index])) {
      throw DataError("positions: value that is not finite at index " + std::to_string(index / 3));
    }
  }
  if (count == 0) return;
  // small batches are cut into as many pieces as there are threads
  const auto threads = static_cast<std::size_t>(thread_count(count, execution.threads));
  const std::size_t batch = std::min(implementation_->preferred_batch(), (count + threads - 1) / threads);
  const std::size_t batches = (count + batch - 1) / batch;
  if (batches == 1) {  // a single position, say: nothing is allocated
    const auto whole = [&](std::size_t, int) {
      std::unique_ptr<Workspace> workspace = implementation_->take_workspace();
      implementation_->synthesize(positions.data, count, channels.data, jacobian.data, *workspace);
      implementation_->give_back(std::move(workspace));
    };
    parallel_for(1, execution, std::ref(whole));
    return;
  }
  std::vector<std::unique_ptr<Workspace>> workspaces;
  for (int worker = 0; worker < thread_count(batches, execution.threads); ++worker) {
    workspaces.push_back(make_workspace());
  }
  parallel_for(batches, execution, [&](std::size_t index, int worker) {
    const std::size_t first = index * batch;
    implementation_->synthesize(positions.row(first), std::min(batch, count - first), channels.row(first),
                                with_jacobian ? jacobian.row(first) : nullptr,
                                *workspaces[static_cast<std::size_t>(worker)]);
  });
}

}  // namespace wavefix
