// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__)
#include <pthread.h>
#endif

#include "plane_wave_model.hpp"
#include "wavefix/localizer.hpp"
#include "wavefix/version.hpp"
#include "wavefix/wavefix.h"

namespace {

using namespace wavefix;

using Model = std::unique_ptr<wavefix_model, decltype(&wavefix_model_free)>;
using Handle = std::unique_ptr<wavefix_localizer, decltype(&wavefix_localizer_free)>;

constexpr std::size_t n_antennas = 8, n_subcarriers = 12, n = 6;

Model open_model() {
  const std::string file = testing::plane_wave_model_file();
  wavefix_model* model = nullptr;
  REQUIRE(wavefix_model_from_bytes(file.data(), file.size(), &model) == WAVEFIX_OK);
  return Model(model, &wavefix_model_free);
}

Handle open_localizer(const wavefix_model* model, const wavefix_localizer_options* options = nullptr) {
  wavefix_localizer* localizer = nullptr;
  REQUIRE(wavefix_localizer_create(model, options, &localizer) == WAVEFIX_OK);
  return Handle(localizer, &wavefix_localizer_free);
}

bool message_holds(const char* part) { return std::string(wavefix_message()).find(part) != std::string::npos; }

const float* floats(const std::vector<cfloat>& values) { return reinterpret_cast<const float*>(values.data()); }
float* floats(std::vector<cfloat>& values) { return reinterpret_cast<float*>(values.data()); }

struct Outputs {
  std::vector<double> position = std::vector<double>(3 * n, -1.0), covariance = std::vector<double>(9 * n),
                      residual = std::vector<double>(n), ambiguity = std::vector<double>(n),
                      float_position = std::vector<double>(3 * n);
  std::vector<std::uint8_t> status = std::vector<std::uint8_t>(n, 255);
};

TEST_CASE("C: synthesize and locate give the bits of C++") {
  const ChannelModel reference = testing::plane_wave_model();
  const auto truth = testing::random_positions(reference, n);
  const auto expected = testing::synthesize(reference, truth);
  const Model model = open_model();
  std::vector<cfloat> channels(expected.size()), jacobian(3 * expected.size());
  REQUIRE(wavefix_synthesize(model.get(), n, truth.data(), floats(channels), floats(jacobian), nullptr) == WAVEFIX_OK);
  CHECK(channels == expected);

  Outputs c, cpp;
  const Handle localizer = open_localizer(model.get());
  wavefix_fixes fixes{sizeof fixes,      c.position.data(),  c.covariance.data(),    c.status.data(),
                      c.residual.data(), c.ambiguity.data(), c.float_position.data()};
  const wavefix_execution one_thread{sizeof one_thread, 1, nullptr, nullptr};
  REQUIRE(wavefix_locate(localizer.get(), floats(expected), n, n_antennas, n_subcarriers, &fixes, &one_thread) ==
          WAVEFIX_OK);
  Localizer(reference).locate(View<const cfloat, 3>(expected.data(), {n, n_antennas, n_subcarriers}),
                              {{cpp.position.data(), {n, 3}},
                               {cpp.covariance.data(), {n, 3, 3}},
                               {cpp.status.data(), {n}},
                               {cpp.residual.data(), {n}},
                               {cpp.ambiguity.data(), {n}},
                               {cpp.float_position.data(), {n, 3}}});
  CHECK(c.position == cpp.position);
  CHECK(c.covariance == cpp.covariance);
  CHECK(c.status == cpp.status);
  CHECK(std::memcmp(c.float_position.data(), cpp.float_position.data(), 3 * n * sizeof(double)) == 0);  // NaN too
  CHECK(c.residual == cpp.residual);
  CHECK(std::memcmp(c.ambiguity.data(), cpp.ambiguity.data(), n * sizeof(double)) == 0);  // may be NaN
  CHECK(wavefix_localizer_bytes(localizer.get(), n) == reference.bytes() + Localizer(reference).bytes(n));
}

TEST_CASE("C: outputs that are NULL are not written, a localizer outlives its model") {
  const ChannelModel reference = testing::plane_wave_model();
  const auto channels = testing::synthesize(reference, testing::random_positions(reference, n));
  Model model = open_model();
  const Handle localizer = open_localizer(model.get());
  model.reset();
  Outputs all, some;
  wavefix_fixes fixes{sizeof fixes,
                      all.position.data(),
                      all.covariance.data(),
                      all.status.data(),
                      all.residual.data(),
                      all.ambiguity.data(),
                      nullptr};
  REQUIRE(wavefix_locate(localizer.get(), floats(channels), n, n_antennas, n_subcarriers, &fixes, nullptr) == 0);
  fixes = {sizeof fixes, some.position.data(), nullptr, nullptr, nullptr, nullptr, nullptr};
  REQUIRE(wavefix_locate(localizer.get(), floats(channels), n, n_antennas, n_subcarriers, &fixes, nullptr) == 0);
  CHECK(some.position == all.position);
  CHECK(some.status == std::vector<std::uint8_t>(n, 255));
}

TEST_CASE("C: numbers at the edge have the answers of docs/conventions.md and leave other rows alone") {
  const ChannelModel reference = testing::plane_wave_model();
  auto truth = testing::random_positions(reference, n);
  auto channels = testing::synthesize(reference, truth);
  const Model model = open_model();
  const Handle localizer = open_localizer(model.get());
  const auto locate = [&](Outputs& out) {
    wavefix_fixes fixes{sizeof fixes,        out.position.data(),  out.covariance.data(),    out.status.data(),
                        out.residual.data(), out.ambiguity.data(), out.float_position.data()};
    CHECK(wavefix_locate(localizer.get(), floats(channels), n, n_antennas, n_subcarriers, &fixes, nullptr) ==
          WAVEFIX_OK);
  };
  Outputs before, after;
  locate(before);
  const std::size_t size = n_antennas * n_subcarriers;
  const float infinity = std::numeric_limits<float>::infinity();
  channels[0] = {std::nanf(""), 0.0f};
  channels[size + 3] = {0.0f, infinity};
  std::fill_n(channels.begin() + 2 * size, size, cfloat(0.0f));
  std::fill_n(channels.begin() + 3 * size, size, cfloat(1e-42f));  // denormal
  std::fill_n(channels.begin() + 4 * size, size, cfloat(3e38f));
  locate(after);
  for (std::size_t row = 0; row < 3; ++row) {
    CHECK(after.status[row] == static_cast<std::uint8_t>(Status::invalid_input));
    CHECK(std::isnan(after.position[3 * row]));
  }
  for (std::size_t row = 3; row < 5; ++row) {
    const auto status = static_cast<Status>(after.status[row]);
    CHECK((status == Status::poor_fit || status == Status::outside_region));
    CHECK(std::isfinite(after.position[3 * row]));
  }
  CHECK(std::memcmp(&after.position[15], &before.position[15], 3 * sizeof(double)) == 0);
  CHECK(after.status[5] == before.status[5]);

  truth[3] = std::nan("");
  const int refused = wavefix_synthesize(model.get(), n, truth.data(), floats(channels), nullptr, nullptr);
  CHECK(refused == WAVEFIX_DATA_ERROR);
  CHECK(message_holds("positions: value that is not finite at index 1"));
  truth[3] = 1e300;
  CHECK(wavefix_synthesize(model.get(), n, truth.data(), floats(channels), nullptr, nullptr) == WAVEFIX_OK);
}

TEST_CASE("C: description and metadata are those of the model") {
  const ChannelModel reference = testing::plane_wave_model();
  const Model model = open_model();
  wavefix_description d{};
  d.struct_size = sizeof d;
  REQUIRE(wavefix_model_describe(model.get(), &d) == WAVEFIX_OK);
  CHECK(std::string(d.kind) == "planar");
  CHECK(d.n_antennas == n_antennas);
  CHECK(d.n_subcarriers == n_subcarriers);
  CHECK(d.n_atoms == reference.n_atoms());
  CHECK(d.bytes == reference.bytes());
  CHECK(d.wavelength == reference.wavelength());
  CHECK(d.validation_nmse == reference.validation_nmse());
  CHECK(std::vector<double>(d.antenna_positions, d.antenna_positions + 3 * n_antennas) ==
        reference.antenna_positions());
  CHECK(std::vector<double>(d.frequencies, d.frequencies + n_subcarriers) == reference.frequencies());
  REQUIRE(d.region_dimension == 2);
  CHECK(d.region_origin[2] == 1.5);
  CHECK(std::vector<double>(d.region_basis, d.region_basis + 6) == reference.region().basis);
  CHECK(d.region_lower[1] == reference.region().lower[1]);
  CHECK(d.region_upper[0] == reference.region().upper[0]);
  CHECK(std::string(wavefix_model_metadata(model.get(), "units")) == "m,s,Hz,rad");
  CHECK(wavefix_model_metadata(model.get(), "none") == nullptr);
  CHECK(std::string(wavefix_version()) == WAVEFIX_VERSION);
}

TEST_CASE("C: structs of older and of newer callers are read") {
  struct Newer {  // a caller compiled with a later header
    wavefix_localizer_options options;
    double later[2];
  };
  const Model model = open_model();
  Newer newer;
  std::memset(static_cast<void*>(&newer), 0x55, sizeof newer);
  newer.options.struct_size = sizeof newer;
  REQUIRE(wavefix_localizer_defaults(&newer.options) == WAVEFIX_OK);
  CHECK(newer.options.struct_size == sizeof newer);
  CHECK(newer.options.starts == std::size_t(LocalizerOptions().starts));
  CHECK(std::string(newer.options.strategy) == LocalizerOptions().strategy);
  CHECK(newer.options.tolerance == RefineOptions().tolerance);
  CHECK(newer.later[0] == 0.0);
  wavefix_localizer* localizer = nullptr;
  CHECK(wavefix_localizer_create(model.get(), &newer.options, &localizer) == WAVEFIX_OK);
  wavefix_localizer_free(localizer);
  newer.later[1] = 1.0;
  CHECK(wavefix_localizer_create(model.get(), &newer.options, &localizer) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(localizer == nullptr);
  CHECK(message_holds("does not know"));

  wavefix_localizer_options older;  // of a caller compiled before float_fix: what it does not know takes its default
  std::memset(static_cast<void*>(&older), 0x55, sizeof older);
  older.struct_size = offsetof(wavefix_localizer_options, coarse_spacing);
  REQUIRE(wavefix_localizer_defaults(&older) == WAVEFIX_OK);
  unsigned char untouched[sizeof(std::size_t)];
  std::memcpy(untouched, &older.finalists, sizeof untouched);
  for (const unsigned char byte : untouched) CHECK(byte == 0x55);
  CHECK(wavefix_localizer_create(model.get(), &older, &localizer) == WAVEFIX_OK);
  wavefix_localizer_free(localizer);

  unsigned char room[sizeof(wavefix_description) + 8];  // nothing is written behind an older caller's struct
  std::memset(room, 0x55, sizeof room);
  wavefix_description d;
  d.struct_size = sizeof d;
  std::memcpy(room, &d.struct_size, sizeof d.struct_size);
  REQUIRE(wavefix_model_describe(model.get(), reinterpret_cast<wavefix_description*>(room)) == WAVEFIX_OK);
  for (std::size_t index = sizeof d; index < sizeof room; ++index) CHECK(room[index] == 0x55);

  for (const std::size_t wrong : {std::size_t{0}, sizeof(std::size_t), ~std::size_t{0}}) {
    d.struct_size = wrong;
    CHECK(wavefix_model_describe(model.get(), &d) == WAVEFIX_ARGUMENT_ERROR);
    CHECK(message_holds("wavefix_description.struct_size"));
  }
}

TEST_CASE("C: each option reaches the localizer") {
  const Model model = open_model();
  const auto refused = [&](void (*spoil)(wavefix_localizer_options&), const char* name) {
    wavefix_localizer_options options{};
    options.struct_size = sizeof options;
    REQUIRE(wavefix_localizer_defaults(&options) == WAVEFIX_OK);
    spoil(options);
    wavefix_localizer* localizer = nullptr;
    CHECK_MESSAGE(wavefix_localizer_create(model.get(), &options, &localizer) == WAVEFIX_SHAPE_ERROR, name);
    CHECK_MESSAGE(message_holds(name), wavefix_message());
    wavefix_localizer_free(localizer);
  };
  using Options = wavefix_localizer_options;
  refused([](Options& o) { o.strategy = "none"; }, "strategy");
  refused([](Options& o) { o.grid_spacing = -1; }, "grid_spacing");
  refused([](Options& o) { o.starts = ~std::size_t{0}; }, "starts");
  refused([](Options& o) { o.local_radius = -1; }, "local_radius");
  refused([](Options& o) { o.local_spacing = 0; }, "local_spacing");
  refused([](Options& o) { o.circles = 1000; }, "circles");
  refused([](Options& o) { o.circle_spacing = 0; }, "circle_spacing");
  refused([](Options& o) { o.poor_fit_factor = 0; }, "poor_fit_factor");
  refused([](Options& o) { o.ambiguity_threshold = 0; }, "ambiguity_threshold");
  refused([](Options& o) { o.region_margin = -1; }, "region_margin");
  refused([](Options& o) { o.coarse_spacing = -1; }, "coarse_spacing");
  refused([](Options& o) { o.coarse_starts = ~std::size_t{0}; }, "coarse_starts");
  refused([](Options& o) { o.candidate_spacing = -1; }, "candidate_spacing");
  refused([](Options& o) { o.candidate_radius = -1; }, "candidate_radius");
  refused([](Options& o) { o.max_candidates = 0; }, "max_candidates");
  refused([](Options& o) { o.minima = 0; }, "minima");
  refused([](Options& o) { o.finalists = 0; }, "finalists");
  refused([](Options& o) { o.initial_damping = -1; }, "initial_damping");
  refused([](Options& o) { o.max_step = 0; }, "max_step");
  refused([](Options& o) { o.tolerance = -1; }, "tolerance");
}

TEST_CASE("C: misuse is answered with a code and a message") {
  wavefix_model* none = nullptr;
  CHECK(wavefix_model_load("/no/such/file", &none) == WAVEFIX_ERROR);
  CHECK(message_holds("/no/such/file"));
  CHECK(wavefix_model_load(nullptr, &none) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(wavefix_model_load("x", nullptr) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(wavefix_model_from_bytes("not a model", 11, &none) == WAVEFIX_FORMAT_ERROR);
  CHECK(none == nullptr);
  CHECK(!std::string(wavefix_message()).empty());

  const Model model = open_model();
  CHECK(std::string(wavefix_message()).empty());
  std::vector<cfloat> channels(n_antennas * n_subcarriers);
  const std::vector<double> nan{std::nan(""), 0.0, 0.0};
  CHECK(wavefix_synthesize(model.get(), 1, nan.data(), floats(channels), nullptr, nullptr) == WAVEFIX_DATA_ERROR);
  CHECK(wavefix_synthesize(model.get(), 1, nullptr, floats(channels), nullptr, nullptr) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(wavefix_synthesize(nullptr, 1, nan.data(), floats(channels), nullptr, nullptr) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(wavefix_synthesize(model.get(), 0, nullptr, nullptr, nullptr, nullptr) == WAVEFIX_OK);
  CHECK(wavefix_synthesize(model.get(), ~std::size_t{0} / 8, nan.data(), floats(channels), nullptr, nullptr) ==
        WAVEFIX_SHAPE_ERROR);

  const Handle localizer = open_localizer(model.get());
  const wavefix_fixes nothing{sizeof nothing, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  const auto locate = [&](std::size_t count, std::size_t a, std::size_t k) {
    return wavefix_locate(localizer.get(), floats(channels), count, a, k, &nothing, nullptr);
  };
  CHECK(locate(1, n_antennas, n_subcarriers) == WAVEFIX_OK);
  CHECK(locate(0, n_antennas, n_subcarriers) == WAVEFIX_OK);
  CHECK(locate(1, n_subcarriers, n_antennas) == WAVEFIX_SHAPE_ERROR);
  CHECK(message_holds("expected (8, 12), got (12, 8)"));
  CHECK(locate(~std::size_t{0}, n_antennas, n_subcarriers) == WAVEFIX_SHAPE_ERROR);
  CHECK(wavefix_locate(localizer.get(), floats(channels), 1, 8, 12, nullptr, nullptr) == WAVEFIX_ARGUMENT_ERROR);
  const wavefix_execution crowd{sizeof crowd, 1000000, nullptr, nullptr};
  CHECK(wavefix_locate(localizer.get(), floats(channels), 1, 8, 12, &nothing, &crowd) == WAVEFIX_OK);
  wavefix_model_free(nullptr);
  wavefix_localizer_free(nullptr);
  CHECK(wavefix_localizer_bytes(nullptr, 1) == 0);
}

TEST_CASE("C: an interrupt stops a call, and an exception of the callback stays inside") {
  const Model model = open_model();
  const ChannelModel reference = testing::plane_wave_model();
  const auto channels = testing::synthesize(reference, testing::random_positions(reference, n));
  const Handle localizer = open_localizer(model.get());
  const wavefix_fixes nothing{sizeof nothing, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  int asked = 0;
  wavefix_execution execution{sizeof execution, 1, [](void* state) { return ++*static_cast<int*>(state) > 2 ? 1 : 0; },
                              &asked};
  CHECK(wavefix_locate(localizer.get(), floats(channels), n, 8, 12, &nothing, &execution) == WAVEFIX_INTERRUPTED);
  CHECK(asked == 3);
  execution.interrupt = [](void*) -> int { throw std::runtime_error("from the callback"); };
  CHECK(wavefix_locate(localizer.get(), floats(channels), n, 8, 12, &nothing, &execution) == WAVEFIX_INTERNAL_ERROR);
  CHECK(message_holds("from the callback"));

  wavefix_localizer_options options;
  options.struct_size = sizeof options;
  REQUIRE(wavefix_localizer_defaults(&options) == WAVEFIX_OK);
  CHECK(options.planning == nullptr);
  options.planning = &execution;
  wavefix_localizer* planned = nullptr;
  for (const bool stop : {true, false}) {
    execution.interrupt = stop ? [](void*) { return 1; } : [](void*) { return 0; };
    CHECK(wavefix_localizer_create(model.get(), &options, &planned) == (stop ? WAVEFIX_INTERRUPTED : WAVEFIX_OK));
    CHECK((planned == nullptr) == stop);
  }
  wavefix_localizer_free(planned);
  execution.struct_size = 0;
  CHECK(wavefix_localizer_create(model.get(), &options, &planned) == WAVEFIX_ARGUMENT_ERROR);
  CHECK(message_holds("wavefix_execution.struct_size is 0"));
}

#if defined(__unix__)
struct Cancelled {
  const wavefix_model* model;
  wavefix_code code;
};

void* cancelled_in_a_call(void* state) {
  auto& work = *static_cast<Cancelled*>(state);
  wavefix_execution execution{};
  execution.struct_size = sizeof execution;
  execution.threads = 1;
  execution.interrupt = [](void*) {
    pthread_cancel(pthread_self());
    pthread_testcancel();
    return 0;
  };
  const std::vector<double> positions(3);
  std::vector<cfloat> channel(n_antennas * n_subcarriers);
  work.code = wavefix_synthesize(work.model, 1, positions.data(), floats(channel), nullptr, &execution);
  return nullptr;
}

TEST_CASE("C: who is cancelled in a call ends after it") {
  const Model model = open_model();
  Cancelled work{model.get(), -1};
  pthread_t thread;
  REQUIRE(pthread_create(&thread, nullptr, &cancelled_in_a_call, &work) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  CHECK(work.code == WAVEFIX_OK);
}
#endif

TEST_CASE("C: threads have messages of their own") {
  wavefix_model* none = nullptr;
  CHECK(wavefix_model_load("/first", &none) == WAVEFIX_ERROR);
  std::string seen = "not run";
  std::thread([&] {
    seen = wavefix_message();
    wavefix_model_load("/second", &none);
  }).join();
  CHECK(seen.empty());
  CHECK(message_holds("/first"));
}

}  // namespace
