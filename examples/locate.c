/* SPDX-License-Identifier: Apache-2.0 */
/* wavefix from C99: what a model says of itself, the channels of three users, and the users again from the channels.
 *
 *   python hall.py hall.safetensors && locate_c hall.safetensors */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <wavefix/wavefix.h>

#define N 3

static int report(const char* what) {
  fprintf(stderr, "locate: %s: %s\n", what, wavefix_message());
  return 1;
}

static int locate_users(const wavefix_model* model, const wavefix_description* about) {
  wavefix_localizer* localizer = NULL;
  double truth[N][3], position[N][3];
  uint8_t status[N];
  size_t user, axis, wrong = 0;
  wavefix_fixes fixes = {.struct_size = sizeof fixes, .position = position[0], .status = status}; /* no others wanted */
  float* channels = malloc(N * about->n_antennas * about->n_subcarriers * 2 * sizeof *channels);
  if (channels == NULL) return report("no memory");
  for (user = 0; user < N; ++user) {
    for (axis = 0; axis < 3; ++axis) truth[user][axis] = about->region_origin[axis];
    truth[user][0] += 0.31 * (double)user - 0.2;
    truth[user][1] += 0.123 * (double)user;
  }
  if (wavefix_synthesize(model, N, truth[0], channels, NULL, NULL)) return report("synthesize");
  if (wavefix_localizer_create(model, NULL, &localizer)) return report("localizer");
  if (wavefix_locate(localizer, channels, N, about->n_antennas, about->n_subcarriers, &fixes, NULL)) {
    return report("locate");
  }
  for (user = 0; user < N; ++user) {
    const double error = hypot(position[user][0] - truth[user][0], position[user][1] - truth[user][1]);
    printf("user %d at %.4f %.4f m, off by %.1e m, status %d\n", (int)user, position[user][0], position[user][1], error,
           (int)status[user]);
    wrong += !(error < 1e-5) || status[user] != WAVEFIX_FIX_OK; /* float32 channels, 1e-4 of a wavelength */
  }
  wavefix_localizer_free(localizer);
  free(channels);
  return wrong > 0;
}

int main(int argc, char** argv) {
  wavefix_model* model = NULL;
  wavefix_description about = {.struct_size = sizeof about};
  int failed;
  if (argc != 2) {
    fprintf(stderr, "usage: locate_c MODEL\n");
    return 2;
  }
  if (wavefix_model_load(argv[1], &model)) return report(argv[1]);
  if (wavefix_model_describe(model, &about)) return report("describe");
  printf("wavefix %s, %s model: %d paths, %d antennas, %d subcarriers, %d bytes\n", wavefix_version(), about.kind,
         (int)about.n_atoms, (int)about.n_antennas, (int)about.n_subcarriers, (int)about.bytes);
  failed = locate_users(model, &about);
  wavefix_model_free(model);
  return failed;
}
