// SPDX-License-Identifier: Apache-2.0
// A host closes its plugins whenever it likes; helper threads in their code must not lose it.
#include <dlfcn.h>
#include <doctest/doctest.h>

namespace {

TEST_CASE("a plugin may be closed while its helpers sleep, and opened again") {
  for (int repeat = 0; repeat < 3; ++repeat) {
    void* const plugin = dlopen(WAVEFIX_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(plugin != nullptr);
    const auto work = reinterpret_cast<int (*)()>(dlsym(plugin, "plugin_work"));
    REQUIRE(static_cast<bool>(work));  // doctest cannot show a function
    CHECK(work() > 0);
    CHECK(dlclose(plugin) == 0);
    CHECK(dlopen(WAVEFIX_TEST_PLUGIN, RTLD_NOW | RTLD_NOLOAD) != nullptr);  // what they wake up in is still there
  }
}

}  // namespace
