/* SPDX-License-Identifier: Apache-2.0 */
/* Argument: the model file that main.cpp writes, a line along x. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <wavefix/wavefix.h>

#define REQUIRE(condition)                                                  \
  do {                                                                      \
    if (!(condition)) {                                                     \
      fprintf(stderr, "failed: " #condition ": '%s'\n", wavefix_message()); \
      return 1;                                                             \
    }                                                                       \
  } while (0)

int main(int argc, char** argv) {
  const double truth[3] = {0.123, 0.0, 1.5};
  double position[3] = {0.0, 0.0, 0.0};
  uint8_t status = 255;
  wavefix_model* model = NULL;
  wavefix_localizer* localizer = NULL;
  wavefix_description description = {.struct_size = sizeof(wavefix_description)};
  wavefix_localizer_options options = {.struct_size = sizeof(wavefix_localizer_options)};
  wavefix_fixes fixes = {.struct_size = sizeof(wavefix_fixes)};
  float* channel;

  REQUIRE(argc == 2);
  REQUIRE(wavefix_model_load("/no/such/file", &model) == WAVEFIX_ERROR && wavefix_message()[0] != '\0');
  REQUIRE(wavefix_model_load(argv[1], &model) == WAVEFIX_OK);
  REQUIRE(wavefix_model_describe(model, &description) == WAVEFIX_OK);
  channel = malloc(2 * sizeof(float) * description.n_antennas * description.n_subcarriers);
  REQUIRE(channel != NULL);
  REQUIRE(wavefix_synthesize(model, 1, truth, channel, NULL, NULL) == WAVEFIX_OK);
  REQUIRE(wavefix_localizer_defaults(&options) == WAVEFIX_OK);
  options.strategy = "off_grid_naive";
  REQUIRE(wavefix_localizer_create(model, &options, &localizer) == WAVEFIX_OK);
  wavefix_model_free(model);
  fixes.position = position;
  fixes.status = &status;
  REQUIRE(wavefix_locate(localizer, channel, 1, description.n_antennas, description.n_subcarriers, &fixes, NULL) ==
          WAVEFIX_OK);
  wavefix_localizer_free(localizer);
  free(channel);
  REQUIRE(fabs(position[0] - truth[0]) < 1e-4 && status == WAVEFIX_FIX_OK);
  printf("wavefix %s: C consumer ok\n", wavefix_version());
  return 0;
}
