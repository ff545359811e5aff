// SPDX-License-Identifier: Apache-2.0
// Callers on threads of their own. ThreadSanitizer runs these in a build without OpenMP, whose runtime it cannot see.
#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "wavefix/error.hpp"
#include "wavefix/parallel.hpp"

namespace {

template <class Body>
void on_threads(int count, const Body& body) {
  std::vector<std::thread> threads;
  for (int index = 0; index < count; ++index) threads.emplace_back([&body, index] { body(index); });
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("threads run their own parallel_for loops side by side") {
  std::vector<long> sums(4, 0);
  on_threads(4, [&](int caller) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::vector<long> squares(200, 0);
      wavefix::parallel_for(squares.size(), {2, {}},
                            [&](std::size_t index, int) { squares[index] = static_cast<long>(index * index); });
      sums[static_cast<std::size_t>(caller)] += std::accumulate(squares.begin(), squares.end(), 0L);
    }
  });
  for (const long sum : sums) CHECK(sum == 20L * (199L * 200L * 399L / 6L));
}

TEST_CASE("threads get back the exception of their own loop") {
  std::atomic<int> matched{0};
  on_threads(4, [&](int caller) {
    const std::string expected = "caller " + std::to_string(caller);
    try {
      wavefix::parallel_for(64, {2, {}}, [&](std::size_t index, int) {
        if (index == 11) throw wavefix::DataError(expected);
      });
    } catch (const wavefix::DataError& error) {
      if (error.what() == expected) ++matched;
    }
  });
  CHECK(matched == 4);
}

TEST_CASE("threads that loop inside a loop body stay correct") {
  std::vector<int> counts(6, 0);
  wavefix::parallel_for(counts.size(), {2, {}}, [&](std::size_t outer, int) {
    std::atomic<int> inner{0};
    wavefix::parallel_for(50, {2, {}}, [&](std::size_t, int) { ++inner; });
    counts[outer] = inner.load();
  });
  for (const int count : counts) CHECK(count == 50);
}

}  // namespace
