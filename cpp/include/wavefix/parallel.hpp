// SPDX-License-Identifier: Apache-2.0
// One loop for every batch: exceptions cross it, an interrupt stops it, no global setting is touched.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "wavefix/views.hpp"

namespace wavefix {

/// Asked now and then from the calling thread, between items and inside of long ones; true stops the loop with
/// Interrupted.
using InterruptCheck = std::function<bool()>;

struct Execution {
  int threads = 0;           ///< 0: OMP_NUM_THREADS or omp_set_num_threads if it says a number, else all processors.
  InterruptCheck interrupt;  ///< May be empty.
};

/// Threads that a loop over `items` runs on: what was requested, at most four a processor (or 64). 1 inside the body of
/// another such loop and inside an outer OpenMP region, whose other threads have the processors already.
WAVEFIX_API int thread_count(std::size_t items, int requested);

/// True where this build asks the OpenMP runtime for its settings; without, batches run on several threads as well.
WAVEFIX_API bool has_openmp();

/// The instruction set of the inner loops: "generic", "avx2", "avx512" or "avx512_vnni". The best that the processor
/// has, or the one that the environment variable WAVEFIX_KERNELS named when it was first needed; Error if the processor
/// lacks that.
WAVEFIX_API std::string kernel_level();
/// Those that this processor can run, the best last.
WAVEFIX_API std::vector<std::string> kernel_levels();

/// Calls `body(index, worker)` for each index in [0, items); worker is in [0, thread_count(items, threads)).
/// Each index is computed alone and with the caller's floating-point environment, so results do not depend on the
/// number of threads. The first exception thrown by a body is rethrown here after every worker has stopped. Any number
/// of callers share the helper threads. Works in the child of a fork too, whatever its parent has run.
WAVEFIX_API void parallel_for(std::size_t items, const Execution& execution,
                              const std::function<void(std::size_t index, int worker)>& body);

/// For bodies whose items take long, now and then: throws where the loop of parallel_for that the calling thread is in
/// has been interrupted or another item has failed, so that no item needs to be waited for. Does nothing elsewhere.
WAVEFIX_API void checkpoint();

}  // namespace wavefix
