// SPDX-License-Identifier: Apache-2.0
// A fuzzing engine of one file for compilers without libFuzzer: model_fuzz FOLDER SECONDS [SEED]. Inputs are mutated
// from the files in FOLDER as bytes, as header text and as numbers; one that is refused for a new reason, or that is
// accepted, joins them. What it finds is written to FOLDER.finding, and the exit status is not 0.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
extern int wavefix_fuzz_outcome;
extern std::string wavefix_fuzz_reason;

// A model of a few kilobytes has no business with more.
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=1024:hard_rss_limit_mb=3072:detect_leaks=1:abort_on_error=0";
}
// by abort, so that the input is kept
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1:abort_on_error=1"; }

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t longest = 1 << 16;
constexpr unsigned patience = 60;  // seconds for one input, on a machine that others use too

const Bytes* current = nullptr;
std::string finding_path;

void write_finding() {
  if (current == nullptr) return;
  std::FILE* const file = std::fopen(finding_path.c_str(), "wb");
  if (file == nullptr) return;
  std::fwrite(current->data(), 1, current->size(), file);
  std::fclose(file);
  std::fprintf(stderr, "model_fuzz: the input is in %s\n", finding_path.c_str());
  current = nullptr;
}

void on_signal(int number) {
  if (number == SIGALRM) std::fprintf(stderr, "model_fuzz: more than %u s for one input\n", patience);
  write_finding();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

class Mutator {
 public:
  Mutator(const std::vector<Bytes>& pool, const std::vector<Bytes>& models, unsigned seed)
      : pool_(pool), models_(models), random_(seed) {}

  Bytes next() {
    if (!models_.empty() && below(4) == 0) {  // most are models again, with other numbers
      Bytes input = models_[below(models_.size())];
      for (std::size_t change = 1 + below(3); change > 0; --change) change_number(input);
      return input;
    }
    Bytes input = pool_[below(pool_.size())];
    const std::size_t changes = 1 + below(4);
    for (std::size_t change = 0; change < changes; ++change) mutate(input);
    if (input.size() > longest) input.resize(longest);
    return input;
  }

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  /// Bytes of the header by the file's own account, within the file.
  static std::size_t header_end(const Bytes& input) {
    if (input.size() < 8) return input.size();
    std::uint64_t length = 0;
    std::memcpy(&length, input.data(), 8);
    return length > input.size() - 8 ? input.size() : 8 + static_cast<std::size_t>(length);
  }

  void mutate(Bytes& input) {
    switch (below(8)) {
      case 0:
      case 1:
        return change_number(input);
      case 2:
      case 3:
        return change_header(input);
      case 4:
        return flip(input);
      case 5:
        return cut_or_repeat(input);
      case 6:
        return splice(input);
      default:
        return change_value_at_header_number(input);
    }
  }

  void flip(Bytes& input) {
    if (input.empty()) return;
    const std::size_t at = below(input.size());
    input[at] =
        below(2) ? static_cast<std::uint8_t>(random_()) : static_cast<std::uint8_t>(input[at] ^ (1u << below(8)));
  }

  /// An element of a tensor becomes an extreme one, or one that is a little off.
  void change_number(Bytes& input) {
    static const double numbers[] = {0.0,   -0.0,   1.0,    -1.0, 1e-320, 1e-300, 1e-45,  1e-12, 1e9,       1e-9,
                                     -1e9,  2e9,    1e12,   1e30, 3e38,   1e100,  -1e100, 1e300, 1e308,     -1e308,
                                     1e155, 1.0e20, 1e-155, 2.0,  0.5,    3.5e9,  1e6,    -1e6,  16777216.0};
    const std::size_t begin = header_end(input), room = input.size() - begin;
    if (room < 8) return;
    const double number = numbers[below(std::size(numbers))];
    const auto narrow = static_cast<float>(std::clamp(number, -3.4e38, 3.4e38));
    const bool wide = below(3) != 0;
    const std::size_t size = wide ? 8 : 4, at = begin + below(room / size) * size;
    if (below(4) == 0 && wide) {  // scaled in place
      double value = 0.0;
      std::memcpy(&value, input.data() + at, 8);
      value *= number;
      std::memcpy(input.data() + at, &value, 8);
    } else if (wide) {
      std::memcpy(input.data() + at, &number, 8);
    } else {
      std::memcpy(input.data() + at, &narrow, 4);
    }
  }

  void put_header(Bytes& input, std::size_t end, const std::string& text) {
    const std::uint64_t length = text.size();
    Bytes changed(8);
    std::memcpy(changed.data(), &length, 8);
    changed.insert(changed.end(), text.begin(), text.end());
    changed.insert(changed.end(), input.begin() + static_cast<std::ptrdiff_t>(end), input.end());
    input = std::move(changed);
  }

  std::string header(const Bytes& input, std::size_t end) const {
    return end <= 8 ? std::string() : std::string(input.begin() + 8, input.begin() + static_cast<std::ptrdiff_t>(end));
  }

  /// Tokens are inserted, removed, moved; the length before the header is made to fit.
  void change_header(Bytes& input) {
    static const char* const tokens[] = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         "\"",
                                         ":",
                                         ",",
                                         "0",
                                         "-1",
                                         "18446744073709551615",
                                         "4294967296",
                                         "\\u0000",
                                         "\\ud800",
                                         "\\",
                                         "\"F64\"",
                                         "\"F32\"",
                                         "\"I32\"",
                                         "null",
                                         "1e9",
                                         "\"shape\"",
                                         "\"dtype\"",
                                         "\"data_offsets\"",
                                         "\"__metadata__\"",
                                         "\"kind\"",
                                         "\"spherical\"",
                                         "\"planar\"",
                                         "\xed\xa0\x80",
                                         " "};
    const std::size_t end = header_end(input);
    std::string text = header(input, end);
    const std::size_t at = below(text.size() + 1);
    if (below(2)) {
      text.insert(at, tokens[below(std::size(tokens))]);
    } else if (!text.empty()) {
      const std::size_t from = below(text.size()), length = 1 + below(below(4) ? 8 : text.size());
      const std::string part = text.substr(from, length);
      text.erase(from, length);
      if (below(2)) text.insert(below(text.size() + 1), part);
    }
    put_header(input, end, text);
  }

  /// An integer of the header becomes another one.
  void change_value_at_header_number(Bytes& input) {
    const std::size_t end = header_end(input);
    std::string text = header(input, end);
    const std::string digits = "0123456789";
    const std::size_t from = text.find_first_of(digits, below(text.size() + 1));
    if (from == std::string::npos) return;
    const std::size_t to = std::min(text.find_first_not_of(digits, from), text.size());
    const std::uint64_t old = std::strtoull(text.substr(from, to - from).c_str(), nullptr, 10);
    const std::uint64_t choices[] = {old + 1, old - 1,     2 * old,     old / 2,          old + 8,
                                     old - 8, below(1024), ~0ull - old, 1ull << below(64)};
    text.replace(from, to - from, std::to_string(choices[below(std::size(choices))]));
    put_header(input, end, text);
  }

  void cut_or_repeat(Bytes& input) {
    if (input.empty()) return;
    const auto from = input.begin() + static_cast<std::ptrdiff_t>(below(input.size()));
    const auto to = from + static_cast<std::ptrdiff_t>(1 + below(static_cast<std::size_t>(input.end() - from)));
    if (below(3) == 0) {
      input.resize(static_cast<std::size_t>(from - input.begin()));
    } else if (below(2)) {
      input.erase(from, to);
    } else {
      const Bytes part(from, to);
      input.insert(input.begin() + static_cast<std::ptrdiff_t>(below(input.size() + 1)), part.begin(), part.end());
    }
  }

  void splice(Bytes& input) {
    const Bytes& other = pool_[below(pool_.size())];
    const std::size_t at = below(std::min(input.size(), other.size()) + 1);
    input.resize(at);
    input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(at), other.end());
  }

  const std::vector<Bytes>&pool_, &models_;
  std::mt19937_64 random_;
};

/// A reason without what differs from input to input: numbers, and what is quoted.
std::string kind_of(const std::string& reason) {
  std::string kind;
  bool quoted = false;
  for (const char c : reason.substr(0, 200)) {
    if (c == '"') quoted = !quoted;
    if (!quoted && (c < '0' || c > '9')) kind += c;
  }
  return kind;
}

std::vector<Bytes> read_folder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> pool;
  for (const auto& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    pool.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  return pool;
}

void run(const Bytes& input) {
  current = &input;
  alarm(patience);
  LLVMFuzzerTestOneInput(input.data(), input.size());
  alarm(0);
  current = nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FILE | FOLDER SECONDS [SEED]\n", argv[0]);
    return 2;
  }
  const std::filesystem::path path(argv[1]);
  finding_path = (std::filesystem::is_directory(path) ? path.string() + ".finding" : path.string() + ".again");
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(write_finding);
  for (const int number : {SIGALRM, SIGABRT}) std::signal(number, on_signal);
  if (!std::filesystem::is_directory(path)) {
    std::ifstream stream(path, std::ios::binary);
    run(Bytes(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()));
    std::printf("%s: %s\n", argv[1], wavefix_fuzz_outcome ? "a model" : wavefix_fuzz_reason.c_str());
    return 0;
  }
  std::vector<Bytes> pool = read_folder(path);
  std::set<std::string> reasons;
  std::size_t inputs = 0, accepted = 0;
  const auto judge = [&](const Bytes& input) {
    run(input);
    ++inputs;
    accepted += wavefix_fuzz_outcome != 0;
    return reasons.insert(kind_of(wavefix_fuzz_reason)).second;
  };
  const std::size_t seeds = pool.size();
  if (seeds == 0) return 2;
  for (std::size_t index = 0; index < seeds; ++index) judge(pool[index]);
  std::vector<Bytes> models;
  for (const Bytes& input : pool) {
    if (run(input), wavefix_fuzz_outcome != 0) models.push_back(input);
  }
  const double seconds = argc > 2 ? std::atof(argv[2]) : 60.0;
  const auto seed = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : std::random_device()();
  std::printf("%zu seeds, %zu models among them; %.0f s from seed %u\n", seeds, accepted, seconds, seed);
  std::fflush(stdout);
  Mutator mutator(pool, models, seed);
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
    const Bytes input = mutator.next();
    const bool novel = judge(input);
    if (novel) pool.push_back(input);
    if (wavefix_fuzz_outcome != 0 && models.size() < 1000) models.push_back(input);
  }
  std::printf("%zu inputs, %zu of them models, %zu reasons to refuse one, no finding\n", inputs, accepted,
              reasons.size());
  return 0;
}
