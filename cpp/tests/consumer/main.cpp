// SPDX-License-Identifier: Apache-2.0
#include <wavefix/error.hpp>
#include <wavefix/parallel.hpp>
#include <wavefix/version.hpp>
#include <wavefix/views.hpp>

#include <cstdio>
#include <numeric>
#include <vector>

namespace {

bool loops() {
  std::vector<double> storage(12, 0.0);
  const wavefix::View<double, 2> view(storage.data(), {4, 3});
  wavefix::parallel_for(view.shape[0], {}, [&](std::size_t row, int) { view.row(row)[1] = 1.0 + double(row); });
  return std::accumulate(storage.begin(), storage.end(), 0.0) == 10.0;
}

bool errors_cross_the_library() {  // type information has to be shared with a shared library
  try {
    wavefix::throw_shape("positions", "(n, 3)", "(3, 1)");
  } catch (const wavefix::ShapeError& error) {
    return std::string(error.what()).find("positions") != std::string::npos;
  }
  return false;
}

}  // namespace

int main() {
  if (!loops() || !errors_cross_the_library()) return 1;
  std::printf("wavefix %s: consumer ok\n", WAVEFIX_VERSION);
  return 0;
}
