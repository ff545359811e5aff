/* SPDX-License-Identifier: Apache-2.0 */
/* wavefix for C, and for every language that calls C: load a model, compute channels, locate users.
 *
 * Every function that can fail returns a wavefix_code and, if it is not WAVEFIX_OK, leaves a message for
 * wavefix_message() in the calling thread. No exception leaves the library.
 * Every struct begins with struct_size, which the caller sets to sizeof of the struct it was compiled with. Later
 * versions add fields at the end only: a library accepts the shorter struct of an older caller (what is missing takes
 * its default) and the longer one of a newer caller as long as what it does not know is zero.
 * Arrays are in C order; lengths are meters, frequencies hertz. A complex number is two floats, real and imaginary
 * part. Handles may be shared between threads; only *_free must not run while another call uses the handle.
 * What a call writes must not overlap what it reads, nor anything else that it writes. */
#ifndef WAVEFIX_WAVEFIX_H
#define WAVEFIX_WAVEFIX_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define WAVEFIX_C_API
#else
#define WAVEFIX_C_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t wavefix_code;
enum {
  WAVEFIX_OK = 0,
  WAVEFIX_ARGUMENT_ERROR = 1, /* a null pointer, or a struct_size that cannot be */
  WAVEFIX_SHAPE_ERROR = 2,    /* a shape does not fit the model, or an option is outside its range */
  WAVEFIX_FORMAT_ERROR = 3,   /* not a model file, or a damaged one */
  WAVEFIX_DATA_ERROR = 4,     /* values that cannot be used */
  WAVEFIX_INTERRUPTED = 5,    /* the interrupt callback said so */
  WAVEFIX_OUT_OF_MEMORY = 6,
  WAVEFIX_ERROR = 7,         /* any other error, for example a file that cannot be read */
  WAVEFIX_INTERNAL_ERROR = 8 /* an error of wavefix itself: please report it */
};

/* What a fix is worth; values of wavefix_fixes.status. */
enum {
  WAVEFIX_FIX_OK = 0,
  WAVEFIX_FIX_AMBIGUOUS = 1,
  WAVEFIX_FIX_POOR_FIT = 2,
  WAVEFIX_FIX_OUTSIDE_REGION = 3,
  WAVEFIX_FIX_INVALID_INPUT = 4 /* the channel is zero or not finite; the position is NaN */
};

/* "MAJOR.MINOR.PATCH" of the library that runs. */
WAVEFIX_C_API const char* wavefix_version(void);
/* Why the last call of this thread that returned a wavefix_code failed; "" if it did not. Valid until the next one. */
WAVEFIX_C_API const char* wavefix_message(void);

/* How a batch is run; NULL: on the default number of threads, without interrupt. */
typedef struct wavefix_execution {
  size_t struct_size;
  size_t threads;                /* 0: as many as OpenMP would use */
  int (*interrupt)(void* state); /* NULL, or asked now and then from the calling thread: not 0 stops the call */
  void* state;                   /* handed to interrupt */
} wavefix_execution;

typedef struct wavefix_model wavefix_model;

/* On failure *model is NULL. The bytes are not needed afterwards. */
WAVEFIX_C_API wavefix_code wavefix_model_load(const char* path, wavefix_model** model);
WAVEFIX_C_API wavefix_code wavefix_model_from_bytes(const void* data, size_t size, wavefix_model** model);
/* NULL is allowed. A localizer keeps what it needs of its model: free them in any order. */
WAVEFIX_C_API void wavefix_model_free(wavefix_model* model);

/* Filled by wavefix_model_describe. Pointers live as long as the model. */
typedef struct wavefix_description {
  size_t struct_size;
  const char* kind;
  size_t n_antennas;
  size_t n_subcarriers;
  size_t n_atoms;
  size_t bytes;                    /* of the model file */
  const double* antenna_positions; /* [n_antennas, 3] */
  const double* frequencies;       /* [n_subcarriers] */
  double wavelength;               /* at the center of the frequencies */
  double validation_nmse;          /* linear */
  size_t region_dimension;         /* 1, 2 or 3; the region is lower <= y <= upper of origin + basis^T y */
  const double* region_origin;     /* [3] */
  const double* region_basis;      /* [region_dimension, 3], orthonormal rows */
  const double* region_lower;      /* [region_dimension] */
  const double* region_upper;      /* [region_dimension] */
} wavefix_description;

WAVEFIX_C_API wavefix_code wavefix_model_describe(const wavefix_model* model, wavefix_description* description);
/* The entry of the model file's metadata, or NULL if there is none. Lives as long as the model. */
WAVEFIX_C_API const char* wavefix_model_metadata(const wavefix_model* model, const char* key);

/* channels [n, n_antennas, n_subcarriers] complex at positions [n, 3]; jacobian NULL or
 * [n, 3, n_antennas, n_subcarriers] complex, the derivatives with respect to x, y, z. */
WAVEFIX_C_API wavefix_code wavefix_synthesize(const wavefix_model* model, size_t n, const double* positions,
                                              float* channels, float* jacobian, const wavefix_execution* execution);

/* Meaning, units and ranges: LocalizerOptions and RefineOptions of localizer.hpp and refine.hpp. */
typedef struct wavefix_localizer_options {
  size_t struct_size;
  const char* strategy;
  double grid_spacing;
  size_t starts;
  double local_radius;
  double local_spacing;
  size_t circles;
  double circle_spacing;
  double poor_fit_factor;
  double ambiguity_threshold;
  double region_margin;
  size_t memory_limit;
  size_t max_iterations;
  double initial_damping;
  double max_step;
  double tolerance;
  double coarse_spacing;
  size_t coarse_starts;
  double candidate_spacing;
  double candidate_radius;
  size_t max_candidates;
  size_t minima;
  size_t finalists;
  const wavefix_execution* planning; /* NULL, or its interrupt stops wavefix_localizer_create */
} wavefix_localizer_options;

/* Fills the caller's struct, whose struct_size is set, with the defaults. */
WAVEFIX_C_API wavefix_code wavefix_localizer_defaults(wavefix_localizer_options* options);

typedef struct wavefix_localizer wavefix_localizer;

/* options NULL: the defaults. On failure *localizer is NULL. */
WAVEFIX_C_API wavefix_code wavefix_localizer_create(const wavefix_model* model,
                                                    const wavefix_localizer_options* options,
                                                    wavefix_localizer** localizer);
WAVEFIX_C_API void wavefix_localizer_free(wavefix_localizer* localizer);

/* Where wavefix_locate writes, one row a query. What is NULL is not wanted. */
typedef struct wavefix_fixes {
  size_t struct_size;
  double* position;       /* [n, 3] */
  double* covariance;     /* [n, 3, 3], square meters */
  uint8_t* status;        /* [n] WAVEFIX_FIX_... */
  double* residual;       /* [n] part of the channel's energy that the model leaves at the fix */
  double* ambiguity;      /* [n] 0: unique, 1: an equal runner-up, NaN: no runner-up */
  double* float_position; /* [n, 3] the position with free gains, NaN if the strategy has none */
} wavefix_fixes;

/* channels [n, n_antennas, n_subcarriers] complex; the last two have to be those of the model. */
WAVEFIX_C_API wavefix_code wavefix_locate(const wavefix_localizer* localizer, const float* channels, size_t n,
                                          size_t n_antennas, size_t n_subcarriers, const wavefix_fixes* fixes,
                                          const wavefix_execution* execution);
/* Bytes of model and plan, and of the tiles that locating n_queries at once generates at their largest; 0: NULL. */
WAVEFIX_C_API size_t wavefix_localizer_bytes(const wavefix_localizer* localizer, size_t n_queries);

#ifdef __cplusplus
}
#endif

#endif /* WAVEFIX_WAVEFIX_H */
