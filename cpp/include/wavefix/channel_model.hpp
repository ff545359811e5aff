// SPDX-License-Identifier: Apache-2.0
// A learned channel: position -> channel matrix and its derivative. Read from a model file, evaluated without Python.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Where the model was trained: the box lower <= y <= upper of the points origin + basis^T y.
struct Region {
  std::array<double, 3> origin{};  ///< m
  std::vector<double> basis;       ///< [dimension, 3], orthonormal rows
  std::vector<double> lower;       ///< [dimension], m
  std::vector<double> upper;       ///< [dimension], m

  std::size_t dimension() const { return lower.size(); }  ///< 1 (line), 2 (plane) or 3 (volume)
};

/// A trained channel model. Immutable, cheap to copy, safe to share between threads.
class WAVEFIX_API ChannelModel {
 public:
  /// Scratch memory of synthesize_one; one for each thread, made by make_workspace() of the same model.
  class WAVEFIX_API Workspace {
   public:
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    virtual ~Workspace();

   protected:
    Workspace() = default;
  };

  /// What a kind of model has to provide (see the sources).
  class Implementation;

  /// A larger model file is refused.
  static constexpr std::size_t max_bytes = std::size_t{1} << 30;

  /// Reads a model file. ModelFormatError says what is wrong with its contents, Error why it cannot be read at all.
  static ChannelModel load(const std::string& path);
  /// Reads a model file that is in memory already. The bytes are not needed afterwards.
  static ChannelModel from_bytes(const void* data, std::size_t size);

  const std::string& kind() const;
  std::size_t n_antennas() const;
  std::size_t n_subcarriers() const;
  std::size_t n_atoms() const;
  std::size_t bytes() const;                             ///< size of the model file
  const std::vector<double>& antenna_positions() const;  ///< [n_antennas, 3], m
  const std::vector<double>& frequencies() const;        ///< [n_subcarriers], Hz
  double wavelength() const;                             ///< m, at the center of the frequencies
  const Region& region() const;
  double validation_nmse() const;  ///< linear, (10)
  const std::map<std::string, std::string>& metadata() const;

  /// channels[n, n_antennas, n_subcarriers] at positions[n, 3] (m). A position outside the region is evaluated all
  /// the same; one that is not finite is a DataError. From the second call on, one position allocates nothing.
  void synthesize(View<const double, 2> positions, View<cfloat, 3> channels, const Execution& execution = {}) const;
  /// Likewise, with jacobian[n, 3, n_antennas, n_subcarriers], the derivatives with respect to x, y, z (1/m).
  void synthesize(View<const double, 2> positions, View<cfloat, 3> channels, View<cfloat, 4> jacobian,
                  const Execution& execution = {}) const;

  std::unique_ptr<Workspace> make_workspace() const;
  /// One finite position[3]; channel[n_antennas, n_subcarriers]; jacobian[3, n_antennas, n_subcarriers] or null.
  /// Allocates nothing. The same bits as synthesize.
  void synthesize_one(const double* position, cfloat* channel, cfloat* jacobian, Workspace& workspace) const;

  /// For the stages that build on the structure of a model.
  const Implementation& implementation() const { return *implementation_; }

 private:
  explicit ChannelModel(std::shared_ptr<const Implementation> implementation);
  std::shared_ptr<const Implementation> implementation_;
};

}  // namespace wavefix
