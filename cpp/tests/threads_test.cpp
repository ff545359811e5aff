// SPDX-License-Identifier: Apache-2.0
// Callers on threads of their own, in regions of their own, and in processes of their own. ThreadSanitizer runs the
// cases with "thread" in their name, in a build without OpenMP, whose runtime it cannot see.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "plane_wave_model.hpp"
#include "wavefix/error.hpp"
#include "wavefix/localizer.hpp"
#include "wavefix/parallel.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

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

TEST_CASE("threads share the helpers: no more of them than one caller asks for") {
  std::mutex mutex;
  std::set<std::thread::id> helpers;
  on_threads(6, [&](int) {
    const auto caller = std::this_thread::get_id();
    wavefix::parallel_for(400, {3, {}}, [&](std::size_t, int worker) {
      CHECK((worker == 0) == (std::this_thread::get_id() == caller));
      const std::lock_guard<std::mutex> lock(mutex);
      if (worker != 0) helpers.insert(std::this_thread::get_id());
    });
  });
  // the largest loops of this program ask for 8 threads, or for the default
  CHECK(static_cast<int>(helpers.size()) <= std::max(7, wavefix::thread_count(1 << 30, 0) - 1));
}

TEST_CASE("a slip in the number of threads costs no memory") {
  const int most = wavefix::thread_count(1 << 30, 1 << 30);
  CHECK(most >= 64);
  CHECK(most <= 64 + 4 * static_cast<int>(std::thread::hardware_concurrency()));
}

TEST_CASE("threads round as their caller does") {
  std::fesetround(FE_UPWARD);
  std::atomic<int> different{0};
  wavefix::parallel_for(64, {3, {}}, [&](std::size_t, int) { different += std::fegetround() != FE_UPWARD; });
  std::fesetround(FE_TONEAREST);
  CHECK(different == 0);
  wavefix::parallel_for(64, {3, {}}, [&](std::size_t, int) { different += std::fegetround() != FE_TONEAREST; });
  CHECK(different == 0);
}

#if defined(__GLIBC__)
TEST_CASE("a host's traps of floating-point errors neither go off on threads of a loop nor get lost") {
  const int wanted = FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW;
  std::feclearexcept(FE_ALL_EXCEPT);
  if (feenableexcept(wanted) == -1) return;  // a processor without
  volatile double zero = 0.0;
  std::atomic<int> answers{0};
  const auto divide = [&](std::size_t, int) { answers += std::isnan(zero / zero) && std::isinf(1.0 / zero); };
  for (const int threads : {1, 3}) wavefix::parallel_for(64, {threads, {}}, divide);
  try {
    wavefix::parallel_for(64, {2, {}}, [&](std::size_t index, int worker) {
      divide(index, worker);
      wavefix::parallel_for(2, {1, {}}, divide);  // one inside of another ends before it
      divide(index, worker);
      if (index == 5) throw wavefix::DataError("leaves early");
    });
  } catch (const wavefix::DataError&) {
    ++answers;
  }
  const int trapped = fegetexcept(), raised = std::fetestexcept(wanted);
  fedisableexcept(FE_ALL_EXCEPT);
  CHECK(answers >= 129 + 4 * 6);
  CHECK(trapped == wanted);
  CHECK(raised == 0);
}
#endif

/// Everything that a localizer answers about 12 users, as one vector.
std::vector<double> located(const wavefix::Localizer& localizer, const wavefix::ChannelModel& model,
                            const std::vector<wavefix::cfloat>& channels, int threads) {
  constexpr std::size_t n = 12;
  std::vector<double> found(14 * n);
  std::vector<std::uint8_t> status(n);
  double* const x = found.data();
  localizer.locate({channels.data(), {n, model.n_antennas(), model.n_subcarriers()}},
                   {{x, {n, 3}}, {x + 3 * n, {n, 3, 3}}, {status.data(), {n}}, {x + 12 * n, {n}}, {x + 13 * n, {n}}},
                   {threads, {}});
  found.insert(found.end(), status.begin(), status.end());
  return found;
}

TEST_CASE("threads share one model and one localizer") {
  const auto model = wavefix::testing::plane_wave_model(4, 6, 6, 2.0);
  const wavefix::Localizer localizer(model);
  const auto positions = wavefix::testing::random_positions(model, 12);
  const auto channels = wavefix::testing::synthesize(model, positions);
  const auto wanted = located(localizer, model, channels, 1);
  std::atomic<int> different{0};
  on_threads(4, [&](int caller) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      different += located(localizer, model, channels, 1 + caller % 3) != wanted;
      different += wavefix::testing::synthesize(model, positions) != channels;
    }
  });
  CHECK(different == 0);
}

#if defined(_OPENMP)
TEST_CASE("a loop inside an outer OpenMP region stays on its caller") {
  if (!wavefix::has_openmp()) return;
  std::atomic<int> strays{0};
#pragma omp parallel num_threads(3)
  {
    const auto caller = std::this_thread::get_id();
    strays += wavefix::thread_count(100, 8) != 1;
    wavefix::parallel_for(100, {8, {}}, [&](std::size_t, int) { strays += std::this_thread::get_id() != caller; });
  }
  CHECK(strays == 0);
  omp_set_num_threads(1);  // as torch does in the workers of its data loaders
  const int by_default = wavefix::thread_count(100, 0);
  omp_set_num_threads(3);
  CHECK(by_default == 1);
  CHECK(wavefix::thread_count(100, 0) == 3);
}
#endif

#if defined(__unix__)
/// Bodies that ran on other threads than the caller's, with time for these to wake up.
int helped() {
  std::atomic<int> by_helpers{0};
  wavefix::parallel_for(40, {4, {}}, [&](std::size_t, int worker) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    by_helpers += worker != 0;
  });
  return by_helpers;
}

TEST_CASE("a fork has helpers of its own, even while its parent is in a loop") {
  CHECK(helped() > 0);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) wavefix::parallel_for(64, {4, {}}, [](std::size_t, int) {});
  });
  for (int repeat = 0; repeat < 8; ++repeat) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // what hangs dies
      const bool good = helped() > 0;
      _exit(good ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  stop = true;
  busy.join();
}
#endif

}  // namespace
