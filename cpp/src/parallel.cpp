// SPDX-License-Identifier: Apache-2.0
// parallel_for on threads of our own: they survive fork (a child makes new ones, where the OpenMP runtime would hang),
// are shared by all callers, and the thread sanitizer sees through them. OpenMP is only asked what its user has set.
#include "wavefix/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "untrapped.hpp"
#include "wavefix/error.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define WAVEFIX_PTHREADS
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace wavefix {
namespace {

using Body = std::function<void(std::size_t, int)>;

thread_local bool inside_loop = false;  // of a parallel_for with several threads, on any of them

void throw_interrupted() { throw Interrupted("interrupted by the caller"); }

int count_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

int processors() {  // that this process may run on, asked for once
  static const int count = count_processors();
  return count;
}

/// What checkpoint() looks at, in the loop that this thread is in.
struct Watch {
  const std::atomic<bool>* stop = nullptr;
  const InterruptCheck* interrupt = nullptr;
  std::chrono::steady_clock::time_point asked{};
};
thread_local Watch watch;

/// Ends an item on a helper thread whose loop has been stopped: no error of its own.
struct Stopped {};

/// Puts a watch in place for the duration of a loop; what it leaves open is as in the loop around it.
class Watching {
 public:
  Watching(const std::atomic<bool>* stop, const InterruptCheck* interrupt) : before_(watch) {
    if (stop != nullptr) watch.stop = stop;
    if (interrupt != nullptr && *interrupt) watch.interrupt = interrupt;
    watch.asked = std::chrono::steady_clock::now();
  }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;
  ~Watching() { watch = before_; }

 private:
  Watch before_;
};

/// One parallel_for call; lives on its caller's stack.
struct Job {
  const std::size_t items;
  const Body& body;
  std::fenv_t environment{};  // rounding and denormals as the caller has them, so that no result depends on the thread
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr first{};  // guarded by the pool's mutex, as are the numbers below
  int places;                  // for helpers that may still join, each with the number of its place as its worker's
  std::atomic<int> working{0};
  std::condition_variable done{};

  Job(std::size_t items_, const Body& body_, int helpers) : items(items_), body(body_), places(helpers) {
    std::fegetenv(&environment);
  }

  template <class Ask>
  std::exception_ptr work(int worker, const Ask& ask) {
    inside_loop = true;
    std::exception_ptr error;
    try {
      while (!stop.load(std::memory_order_relaxed)) {
        const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
        if (index >= items) break;
        ask();
        body(index, worker);
      }
    } catch (const Stopped&) {
    } catch (...) {
      stop.store(true);
      error = std::current_exception();
    }
    inside_loop = false;
    return error;
  }
};

/// A thread that holds one keeps this code in memory, also where a program has linked the static library into a plugin
/// of its own and closes that: the C++ runtime does not unload a library that a living thread owes a destructor.
struct Pin {
  Pin() {}
  ~Pin() { ++released; }
  static std::atomic<int> released;  // for a destructor that no compiler takes for an empty one
};
std::atomic<int> Pin::released{0};

void pin() {
  thread_local const Pin held;
  (void)held;
}

/// Helper threads, woken when a loop has room for them. Never destroyed: its threads sleep until the process ends.
class Pool {
 public:
  void run(Job& job, const Execution& execution) {
    submit(job);
    const auto interrupted = [&] { return execution.interrupt && execution.interrupt(); };
    std::exception_ptr error;
    {
      const Watching watching(&job.stop, &execution.interrupt);
      error = job.work(0, [&] {
        if (interrupted()) throw_interrupted();
      });
    }
    std::unique_lock<std::mutex> lock(mutex_);
    close(job);
    if (!job.first) job.first = error;
    lock.unlock();
    spin([&job] { return job.working.load() == 0; });
    lock.lock();
    while (job.working > 0) {  // each helper is in its last item
      if (job.done.wait_for(lock, std::chrono::milliseconds(100)) != std::cv_status::timeout || job.stop) continue;
      lock.unlock();  // the question may wait for a lock of the caller's own
      try {
        if (interrupted()) throw_interrupted();
      } catch (...) {
        job.stop.store(true);
        error = std::current_exception();
      }
      lock.lock();
      if (!job.first) job.first = error;
    }
    if (job.first) std::rethrow_exception(job.first);
  }

 private:
  void submit(Job& job) {
    int wanted = job.places;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      grow(wanted);
      jobs_.push_back(&job);
      open_.store(true);
    }
    while (wanted-- > 0) wake_.notify_one();
  }

  void close(Job& job) {
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
    open_.store(!jobs_.empty());
  }

  /// Waits a moment without sleeping: loops follow each other closely, and waking up takes longer than many of them.
  /// Whoever else wants the processor, as the threads between loops of their own do, has it.
  template <class Condition>
  void spin(const Condition& condition) const {
    if (awake_.load() >= processors()) return;  // somebody else needs the processor
    const auto begin = std::chrono::steady_clock::now();
    while (!condition() && std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(1)) {
      std::this_thread::yield();
    }
  }

  /// At least `count` helpers, shared by all loops: callers on many threads do not multiply them.
  void grow(int count) {
#if defined(WAVEFIX_PTHREADS)
    if (threads_ >= count) return;
    pin();                 // until the helpers hold their own
    sigset_t all, before;  // signals belong to the threads of the program
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
      for (; threads_ < count; ++threads_) {
        std::thread([this] { help(); }).detach();
        ++awake_;
      }
    } catch (const std::exception&) {  // no more threads or memory to be had: the loop runs on those that there are
    }
#if defined(WAVEFIX_PTHREADS)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  }

  [[noreturn]] void help() {
    pin();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      lock.unlock();
      spin([this] { return open_.load(); });
      lock.lock();
      if (jobs_.empty()) {
        --awake_;
        wake_.wait(lock, [this] { return !jobs_.empty(); });
        ++awake_;
      }
      Job& job = *jobs_.front();
      const int worker = job.places--;  // the highest first: scratch for too few workers is noticed at once
      ++job.working;
      if (job.places == 0) close(job);
      lock.unlock();
      std::fesetenv(&job.environment);
      std::exception_ptr error;
      {
        const Watching watching(&job.stop, nullptr);
        error = job.work(worker, [] {});
      }
      lock.lock();
      if (!job.first) job.first = error;
      if (--job.working == 0) job.done.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> jobs_;          // those with places left
  std::atomic<bool> open_{false};  // whether there are any
  int threads_ = 0;
  std::atomic<int> awake_{0};
};

std::atomic<Pool*> current_pool{nullptr};

// While the library is loaded, not in a first call: the child of a fork in the middle of that would wait for ever for
// an answer that no thread of its own will give.
[[maybe_unused]] const bool prepared = [] {
  processors();
#if defined(WAVEFIX_PTHREADS)
  // The child of a fork has none of the threads: it forgets the pool, whose mutex may be locked for ever, and makes
  // one.
  pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); });
#endif
  return true;
}();

Pool& pool() {
  Pool* existing = current_pool.load();
  if (existing != nullptr) return *existing;
  Pool* const made = new Pool;
  if (current_pool.compare_exchange_strong(existing, made)) return *made;
  delete made;  // another thread was faster
  return *existing;
}

/// What OMP_NUM_THREADS or omp_set_num_threads (torch.set_num_threads calls it) says; else all processors.
int default_threads() {
#if defined(_OPENMP)
  return std::min(omp_get_max_threads(), omp_get_thread_limit());
#else
  const char* const text = std::getenv("OMP_NUM_THREADS");
  const long number = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
  return number > 0 && number <= 1 << 20 ? static_cast<int>(number) : processors();
#endif
}

}  // namespace

thread_local bool Untrapped::untrapped_ = false;

int thread_count(std::size_t items, int requested) {
  if (inside_loop) return 1;
#if defined(_OPENMP)
  if (omp_in_parallel()) return 1;
#endif
  // each thread has a workspace: a slip of the pen must not take all memory
  const int most = std::max(64, 4 * processors());
  const int threads = std::clamp(requested > 0 ? requested : default_threads(), 1, most);
  return static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(threads), std::max<std::size_t>(items, 1)));
}

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

void checkpoint() {
  if (watch.stop != nullptr && watch.stop->load(std::memory_order_relaxed)) throw Stopped{};
  if (watch.interrupt == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - watch.asked < std::chrono::milliseconds(50)) return;  // the question may cost more than what is between
  watch.asked = now;
  if ((*watch.interrupt)()) throw_interrupted();
}

void parallel_for(std::size_t items, const Execution& execution, const Body& body) {
  const int threads = thread_count(items, execution.threads);
  const Untrapped untrapped;
  if (threads > 1) {
    Job job(items, body, threads - 1);
    pool().run(job, execution);
    return;
  }
  const Watching watching(nullptr, &execution.interrupt);
  for (std::size_t index = 0; index < items; ++index) {
    if (execution.interrupt && execution.interrupt()) throw_interrupted();
    body(index, 0);
  }
}

}  // namespace wavefix
