// SPDX-License-Identifier: Apache-2.0
// What a kind of channel model provides, and what all kinds share.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "safetensors.hpp"
#include "wavefix/channel_model.hpp"

namespace wavefix {

/// The part of a model file that every kind has.
struct ModelCommon {
  std::string kind;
  std::vector<double> antenna_positions;  // [A, 3]
  std::vector<double> frequencies;        // [K]
  double center_frequency = 0;            // f_r
  double wavelength = 0;                  // c / f_r
  Region region;
  double validation_nmse = 0;
  std::map<std::string, std::string> metadata;
  std::size_t bytes = 0;

  std::size_t n_antennas() const { return antenna_positions.size() / 3; }
  std::size_t n_subcarriers() const { return frequencies.size(); }
};

/// The paths that a model sees at one position, each with its own phase and delay at every antenna:
/// H_jk = sum_i amplitude[i, j] e^(-j 2 pi (f_k - f_r) delay[i, j]), amplitude with carrier phase, gain and gate.
struct Atoms {
  Atoms(std::size_t capacity, std::size_t n_antennas)
      : stride(n_antennas),
        index(capacity),
        direction(3 * capacity),
        real(capacity * n_antennas),
        imag(capacity * n_antennas),
        delay(capacity * n_antennas) {}

  std::size_t count = 0;           // atoms present; those of negligible amplitude are left out
  std::size_t stride = 0;          // antennas
  std::vector<std::size_t> index;  // [count], which atom of the model; increasing
  std::vector<double> direction;   // [count, 3], unit vector from the source to the user: the carrier phase at the
                                   // array's reference point falls by 2 pi / wavelength a meter along it
  std::vector<float> real, imag;   // [count, stride], amplitude at f_r
  std::vector<double> delay;       // [count, stride], s
};

class ChannelModel::Implementation {
 public:
  explicit Implementation(ModelCommon common_) : common(std::move(common_)) {}
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  virtual ~Implementation() { delete spare_.load(); }

  virtual std::size_t n_atoms() const = 0;
  virtual std::unique_ptr<Workspace> make_workspace() const = 0;
  /// Positions that are worth evaluating together; the results do not depend on it.
  virtual std::size_t preferred_batch() const = 0;
  /// At most preferred_batch() finite positions; jacobian may be null. Allocates nothing.
  virtual void synthesize(const double* positions, std::size_t count, cfloat* channels, cfloat* jacobian,
                          Workspace& workspace) const = 0;
  /// The atoms at a finite position; `atoms` has room for n_atoms(). Allocates nothing.
  virtual void atoms(const double* position, Atoms& atoms, Workspace& workspace) const = 0;

  /// A workspace that an earlier call gave back, or a new one.
  std::unique_ptr<Workspace> take_workspace() const {
    std::unique_ptr<Workspace> workspace(spare_.exchange(nullptr));
    return workspace ? std::move(workspace) : make_workspace();
  }
  void give_back(std::unique_ptr<Workspace> workspace) const { delete spare_.exchange(workspace.release()); }

  const ModelCommon common;

 private:
  // one is enough: who calls with single positions from many threads keeps workspaces of his own
  mutable std::atomic<Workspace*> spare_{nullptr};
};

/// Hands out the tensors of a file by name, each checked for its dtype and shape, and finds those nobody asked for.
class TensorReader {
 public:
  static constexpr std::size_t any = static_cast<std::size_t>(-1);

  explicit TensorReader(const safetensors::File& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.tensors.count(name) != 0; }
  const std::vector<double>& values(const std::string& name) const { return file_.tensors.at(name).values; }
  /// ModelFormatError names the tensor, what was expected and what is there. `any` stands for one extent or more.
  const safetensors::Tensor& take(const std::string& name, safetensors::Dtype dtype,
                                  const std::vector<std::size_t>& shape);
  void require_all_taken() const;

 private:
  const safetensors::File& file_;
  std::set<std::string> taken_;
};

[[noreturn]] void throw_model_format(const std::string& what);
/// rows[count, 3] have orthonormal rows to within 1e-6.
void require_orthonormal(const std::string& name, const std::vector<double>& rows);

using ImplementationPointer = std::shared_ptr<const ChannelModel::Implementation>;

ImplementationPointer read_planar_model(ModelCommon common, TensorReader& tensors);
ImplementationPointer read_spherical_model(ModelCommon common, TensorReader& tensors);

}  // namespace wavefix
