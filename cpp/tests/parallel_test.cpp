// SPDX-License-Identifier: Apache-2.0
#include "wavefix/parallel.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "wavefix/error.hpp"

namespace {

TEST_CASE("parallel_for visits each index once, on any number of threads") {
  for (const int threads : {0, 1, 2, 7}) {
    std::vector<int> visits(1000, 0);
    wavefix::parallel_for(visits.size(), {threads, {}}, [&](std::size_t index, int) { ++visits[index]; });
    for (const int count : visits) CHECK(count == 1);
  }
}

TEST_CASE("parallel_for hands out worker numbers below thread_count") {
  const int workers = wavefix::thread_count(100, 3);
  std::vector<int> seen(100, -1);
  wavefix::parallel_for(seen.size(), {3, {}}, [&](std::size_t index, int worker) { seen[index] = worker; });
  for (const int worker : seen) CHECK((worker >= 0 && worker < workers));
}

TEST_CASE("an exception in a body crosses the parallel region") {
  for (const int threads : {1, 2, 4}) {
    const auto throws = [](std::size_t index, int) {
      if (index == 37) throw wavefix::DataError("thirty-seven");
    };
    CHECK_THROWS_WITH_AS(wavefix::parallel_for(100, {threads, {}}, throws), "thirty-seven", wavefix::DataError);
    CHECK_THROWS_AS(wavefix::parallel_for(8, {threads, {}}, [](std::size_t, int) { throw std::bad_alloc(); }),
                    std::bad_alloc);
  }
}

TEST_CASE("an interrupt stops the loop") {
  for (const int threads : {1, 2}) {
    std::atomic<int> asked{0};
    wavefix::Execution execution{threads, [&asked] { return ++asked > 3; }};
    const auto body = [&asked](std::size_t, int worker) {
      while (worker != 0 && asked.load() <= 3) std::this_thread::yield();  // leaves items for the calling thread
    };
    CHECK_THROWS_AS(wavefix::parallel_for(100000, execution, body), wavefix::Interrupted);
  }
}

}  // namespace
