// SPDX-License-Identifier: Apache-2.0
// One loop for every batch: exceptions cross it, an interrupt stops it, no global setting is touched.
#pragma once

#include <cstddef>
#include <functional>

#include "wavefix/views.hpp"

namespace wavefix {

/// Asked now and then from the calling thread; true stops the loop with Interrupted.
using InterruptCheck = std::function<bool()>;

struct Execution {
  int threads = 0;           ///< 0: as many as OpenMP would use (OMP_NUM_THREADS is respected).
  InterruptCheck interrupt;  ///< May be empty.
};

/// Threads that a loop over `items` runs on. 1 without OpenMP, inside an outer parallel region, and in the child
/// of a fork whose parent had already run a parallel region (the OpenMP runtime does not survive that).
WAVEFIX_API int thread_count(std::size_t items, int requested);

/// True where batches can run on several threads.
WAVEFIX_API bool has_openmp();

/// Calls `body(index, worker)` for each index in [0, items); worker is in [0, thread_count(items, threads)).
/// Each index is computed alone, so results do not depend on the number of threads. The first exception thrown by a
/// body is rethrown here after every worker has stopped.
WAVEFIX_API void parallel_for(std::size_t items, const Execution& execution,
                              const std::function<void(std::size_t index, int worker)>& body);

}  // namespace wavefix
