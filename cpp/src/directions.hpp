// SPDX-License-Identifier: Apache-2.0
// The directions that hold most of the energy of a dictionary's entries.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <functional>

#include "wavefix/parallel.hpp"
#include "wavefix/views.hpp"

namespace wavefix {

/// Channel i of a dictionary, size complex numbers.
using ChannelAt = std::function<const cfloat*(std::size_t index)>;

/// An orthonormal basis, directions of most energy first, and the number of them that are worth comparing first.
struct Directions {
  Eigen::MatrixXcd basis;
  std::size_t lead = 0;
  double defect = 0.0;  ///< ||U^H U - I||_F
};

/// Whether a basis can pay at all for `count` entries of `size` numbers.
bool basis_may_pay(std::size_t count, std::size_t size);

/// Empty if energy is everywhere. Channels may have millions of numbers: all that grows with them runs on the threads
/// of `execution`, in pieces between which an interrupt is answered, and the same bits come out for any number of
/// threads.
Directions principal_directions(const ChannelAt& channel, std::size_t count, std::size_t size,
                                const Execution& execution);

/// Orthonormal columns that span those of a tall `a`, also where these are dependent.
Eigen::MatrixXcd orthonormal(const Eigen::MatrixXcd& a, const Execution& execution);

}  // namespace wavefix
