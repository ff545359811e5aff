// SPDX-License-Identifier: Apache-2.0
#include "wavefix/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "wavefix/error.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(_OPENMP) && defined(__unix__)
#include <pthread.h>
#endif

namespace wavefix {
namespace {

#if defined(_OPENMP)
std::atomic<bool> region_has_run{false};
std::atomic<bool> forked_after_region{false};

void note_fork_in_child() {
  if (region_has_run.load()) forked_after_region.store(true);
}

void watch_for_fork() {
#if defined(__unix__)
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, note_fork_in_child); });
#endif
}
#endif

void throw_interrupted() { throw Interrupted("interrupted by the caller"); }

void serial_for(std::size_t items, const Execution& execution, const std::function<void(std::size_t, int)>& body) {
  for (std::size_t index = 0; index < items; ++index) {
    if (execution.interrupt && execution.interrupt()) throw_interrupted();
    body(index, 0);
  }
}

}  // namespace

int thread_count(std::size_t items, int requested) {
#if defined(_OPENMP)
  if (forked_after_region.load() || omp_in_parallel()) return 1;
  const int threads = requested > 0 ? requested : omp_get_max_threads();
  return static_cast<int>(std::min<std::size_t>(std::max(threads, 1), std::max<std::size_t>(items, 1)));
#else
  (void)items, (void)requested;
  return 1;
#endif
}

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

void parallel_for(std::size_t items, const Execution& execution, const std::function<void(std::size_t, int)>& body) {
  const int threads = thread_count(items, execution.threads);
  if (threads <= 1) return serial_for(items, execution, body);
#if defined(_OPENMP)
  watch_for_fork();
  region_has_run.store(true);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr first;
  std::mutex first_mutex;
#pragma omp parallel num_threads(threads)
  {
    const int worker = omp_get_thread_num();
    try {
      while (!stop.load(std::memory_order_relaxed)) {
        const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
        if (index >= items) break;
        if (worker == 0 && execution.interrupt && execution.interrupt()) throw_interrupted();
        body(index, worker);
      }
    } catch (...) {  // an exception that leaves the region would end the process
      stop.store(true);
      const std::lock_guard<std::mutex> lock(first_mutex);
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
#endif
}

}  // namespace wavefix
