// SPDX-License-Identifier: Apache-2.0
#include "wavefix/parallel.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
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

using Clock = std::chrono::steady_clock;

TEST_CASE("a checkpoint answers an interrupt inside of an item, on the calling thread and on helper threads") {
  for (const int threads : {1, 2, 4}) {
    const auto begin = Clock::now();
    const wavefix::Execution execution{threads, [&] { return Clock::now() - begin > std::chrono::milliseconds(120); }};
    const auto endless = [](std::size_t, int) {
      for (;;) wavefix::checkpoint();
    };
    CHECK_THROWS_AS(wavefix::parallel_for(4, execution, endless), wavefix::Interrupted);
    CHECK(Clock::now() - begin < std::chrono::seconds(1));
  }
}

TEST_CASE("a checkpoint in a loop inside of an item answers the interrupt of the loop around it") {
  for (const int threads : {1, 2}) {
    const auto begin = Clock::now();
    const wavefix::Execution execution{threads, [&] { return Clock::now() - begin > std::chrono::milliseconds(120); }};
    const auto endless = [](std::size_t, int) {
      wavefix::parallel_for(4, {}, [](std::size_t, int) {
        for (;;) wavefix::checkpoint();
      });
    };
    CHECK_THROWS_AS(wavefix::parallel_for(1, {1, execution.interrupt}, endless), wavefix::Interrupted);
    CHECK_THROWS_AS(wavefix::parallel_for(4, execution, endless), wavefix::Interrupted);
  }
}

TEST_CASE("an item that fails ends the other threads' items at their next checkpoint, and its exception is the one") {
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto body = [](std::size_t index, int) {
      if (index == 3) throw wavefix::DataError("three");
      for (;;) wavefix::checkpoint();
    };
    CHECK_THROWS_WITH_AS(wavefix::parallel_for(4, {4, {}}, body), "three", wavefix::DataError);
  }
}

TEST_CASE("a checkpoint outside of all loops does nothing") { CHECK_NOTHROW(wavefix::checkpoint()); }

}  // namespace
