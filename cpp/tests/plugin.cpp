// SPDX-License-Identifier: Apache-2.0
// A plugin of some simulator, with the static library inside.
#include <atomic>
#include <chrono>
#include <thread>

#include "wavefix/parallel.hpp"

/// Starts helper threads; how many items these took.
extern "C" __attribute__((visibility("default"))) int plugin_work() {
  std::atomic<int> by_helpers{0};
  wavefix::parallel_for(40, {2, {}}, [&](std::size_t, int worker) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    by_helpers += worker != 0;
  });
  return by_helpers;
}
