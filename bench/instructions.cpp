// SPDX-License-Identifier: Apache-2.0
// Runs one small kernel once, for callgrind: instruction counts do not depend on what else the machine does.
//   instructions LEVEL KERNEL        (nox -s instructions runs all of them)
#include <cstdio>
#include <string>
#include <vector>

#include "kernels.hpp"

using namespace wavefix;

namespace {

// Outside of the namespace of no name and not inlined: callgrind collects inside of functions of this name.
template <class Work>
__attribute__((noinline)) void measured_kernel(const Work& work) {
  work();
}

struct Inputs {
  std::vector<float> rows, columns, products, planes;
  std::vector<double> numbers, real, imag;
  std::vector<short> integers;
  Inputs()
      : rows(1 << 16),
        columns(1 << 14),
        products(1 << 12),
        planes(1 << 12),
        numbers(256),
        real(256),
        imag(256),
        integers(1 << 14, 3) {
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = 0.001f * static_cast<float>(i % 997) - 0.5f;
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = 0.002f * static_cast<float>(i % 499) - 0.5f;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 0.37 * static_cast<double>(i);
  }
};

bool run(const Kernels& kernels, const std::string& name, Inputs& in) {
  if (name == "multiply_float") {  // 32 entries, 256 deep, 8 columns
    measured_kernel([&] {
      kernels.multiply_float({in.rows.data(), 32, 256, 256, 0, in.columns.data(), 8, 272, in.products.data(), 32});
    });
  } else if (name == "row_products") {  // the same
    measured_kernel([&] {
      kernels.row_products({in.rows.data(), 32, 272, in.columns.data(), 8, 272, 256, in.products.data(), 32});
    });
  } else if (name == "pair_products") {  // the same
    const short* columns[8];
    float* products[8];
    for (std::size_t c = 0; c < 8; ++c) {
      columns[c] = in.integers.data() + 256 * c, products[c] = in.products.data() + 32 * c;
    }
    measured_kernel([&] { kernels.pair_products({{in.integers.data(), nullptr}, {256, 0}, columns, products, 8}); });
  } else if (name == "screen") {  // 8 queries
    const ScreenBounds bounds{1.0f, 0.5f, -1.0f, 0.0f};
    const ScreenBounds* all[8];
    const float* products[8];
    for (std::size_t c = 0; c < 8; ++c) all[c] = &bounds, products[c] = in.products.data() + 32 * c;
    unsigned wanted[8];
    const float* const of_entries = in.columns.data();
    measured_kernel([&] { kernels.screen({of_entries, of_entries, of_entries, products, all, 8, false, wanted}); });
  } else if (name == "score") {  // 8 queries
    const ScreenBounds bounds{1.0f, 0.0f, -1.0f, 0.5f};
    ScreenBounds all[8];
    const float* products[8];
    for (std::size_t c = 0; c < 8; ++c) all[c] = bounds, products[c] = in.products.data() + 32 * c;
    float scores[8];
    const float* const of_entries = in.columns.data();
    measured_kernel([&] { kernels.score({of_entries, of_entries, products, all, 8, false, scores}); });
  } else if (name == "unit_phasors") {
    measured_kernel([&] { kernels.unit_phasors(in.numbers.data(), 256, in.real.data(), in.imag.data()); });
  } else if (name == "explained_energy") {  // 12 paths, 64 antennas in groups of 8
    const std::vector<GroupTaps> taps(12 * 8, GroupTaps{{-0.05f, 0.6f, 0.5f, -0.05f}, 3});
    const MapPoint point{12, in.rows.data(),       in.rows.data() + 768, taps.data(), 64, 8, 64, 8, in.columns.data(),
                         80, in.rows.data() + 4096};
    measured_kernel([&] { in.products[0] = kernels.explained_energy(point); });
  } else if (name == "pair_sums") {  // shapes and two slopes each, 64 antennas in groups of 8
    const float *rows = in.rows.data(), *delays = in.columns.data();
    const PathPair pair{{rows, rows + 192, delays, delays + 8},
                        {rows + 384, rows + 576, delays + 24, delays + 32},
                        3,
                        8,
                        8,
                        8,
                        rows + 4096,
                        160,
                        80.0f};
    measured_kernel([&] { kernels.pair_sums(pair, in.products.data()); });
  } else if (name == "path_slopes") {  // likewise
    const PathSlopes path{{in.rows.data(), in.rows.data() + 192, in.columns.data(), in.rows.data() + 4096, 64, 80},
                          in.columns.data(),
                          3,
                          8};
    measured_kernel([&] { kernels.path_slopes(path, in.products.data()); });
  } else if (name == "fill_carrier") {  // 64 points
    const Carrier carrier{0.3, 11.0, 0.2, -0.4, 0.01, 64, in.products.data(), in.products.data() + 64};
    measured_kernel([&] { kernels.fill_carrier(carrier); });
  } else if (name == "add_normal_equations") {  // 256 entries
    const float* rows = in.rows.data();
    measured_kernel([&] { kernels.add_normal_equations({rows, rows + 512, rows + 1024, 512}, in.real.data()); });
  } else if (name == "multiply_planes") {
    measured_kernel([&] { kernels.multiply_planes(in.rows.data(), in.columns.data(), 1024, 1024, in.planes.data()); });
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  const Kernels* list[most_levels];
  const std::size_t usable = usable_kernels(list);
  Inputs inputs;
  for (std::size_t index = 0; count == 3 && index < usable; ++index) {
    if (list[index]->level == std::string(arguments[1])) return run(*list[index], arguments[2], inputs) ? 0 : 2;
  }
  std::fprintf(stderr, "usage: instructions LEVEL KERNEL, with a level that this processor (or valgrind) has\n");
  return 2;
}
