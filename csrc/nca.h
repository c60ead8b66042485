// The C interface of the native roll-out: plain structs and pointers, no header of Python or PyTorch.
#pragma once
#include <stdint.h>

#if defined(_WIN32)
#define NCA_EXPORT extern "C" __declspec(dllexport)
#else
#define NCA_EXPORT extern "C" __attribute__((visibility("default")))
#endif

enum nca_padding { NCA_ZEROS = 0, NCA_REFLECT = 1, NCA_REPLICATE = 2, NCA_CIRCULAR = 3 };

// What a pass took: processor time of all its threads together (0 where it cannot be read) and the time on the clock, in
// seconds, and the number of threads.
struct nca_usage {
  double cpu, wall;
  int64_t threads;
};

// One roll-out. All arrays are contiguous; axes that a state does not have are of size 1, with a kernel of size 1.
struct nca_job {
  int64_t batch, channels, fixed;         // the first `fixed` channels never change
  int64_t shape[3], kernel[3];            // depth, height, width; odd kernel sizes
  int64_t padding;
  int64_t filters;                        // depth-wise filters
  const float* filter;                    // [filters][channels][kernel]
  const uint8_t* learned;                 // [filters]: whether its gradient is wanted
  const float* filter_bias;               // [filters][channels] or null
  int64_t full_outputs;
  const float* full;                      // [full_outputs][channels][kernel] or null
  const float* full_bias;                 // [full_outputs] or null
  int64_t full_relu;
  int64_t hidden;
  const float* w1;                        // [hidden][filters * channels + full_outputs (+ 1 for the time)]
  const float* b1;                        // [hidden] or null
  const float* w2;                        // [channels - fixed][hidden]
  const float* b2;                        // [channels - fixed] or null
  int64_t has_time;
  double time_scale;                      // the time channel is step * time_scale
  float leak;                             // slope of the rectifier below zero
  float noise;                            // standard deviation of the noise on the updates
  int64_t alive_channel;                  // -1: every cell lives
  float threshold;
  int64_t before, after;                  // when a cell must live
  uint32_t fire_threshold, seed;          // a cell fires if its 24-bit hash is below the threshold
  int64_t first_sample;                   // number of the first sample in the batch that these are a part of
  const uint8_t* masks;                   // [steps][batch][cells] or null
  int64_t start, steps;
  int64_t num_stops;
  const int64_t* stops;                   // numbers of steps after which the state is wanted, ascending
  int64_t segment;                        // steps between two stored states; 0: as the budget says
  int64_t budget;                         // bytes that may be kept for the backward pass
  int64_t threads;                        // at most
  int64_t bf16;                           // whether matrix products are taken in bfloat16
  nca_usage* usage;                       // filled in by a pass, or null
};

// Gradients, shaped like their parameters; null where one is not wanted.
struct nca_gradients {
  float *x, *filter, *filter_bias, *full, *full_bias, *w1, *b1, *w2, *b2;
};

enum nca_status { NCA_OK = 0, NCA_NO_MEMORY = 1, NCA_FAILED = 2 };

// States after the stops go to outs[i], (batch, channels, *shape). With a tape, what the backward pass needs is kept.
NCA_EXPORT int nca_forward(const nca_job* job, const float* x, float* const* outs, void** tape);
// grads[i] is the gradient of outs[i], or null. The tape stays usable.
NCA_EXPORT int nca_backward(const nca_job* job, const void* tape, const float* const* grads, const nca_gradients* out);
NCA_EXPORT void nca_free(void* tape);
NCA_EXPORT int64_t nca_tape_bytes(const void* tape);
// Memory that is kept for the next roll-out, in bytes; trimmed to nothing where asked for.
NCA_EXPORT int64_t nca_pool_bytes(int trim);
// Keeps the threads of GNU's OpenMP from spinning for long, given its GOMP_parallel (see openmp.h).
NCA_EXPORT void nca_calm_openmp(void* parallel);
// 0: any CPU; 1: AVX2 and FMA; 2: AVX-512; 3: AVX-512 with bfloat16 products.
NCA_EXPORT int nca_cpu_level(void);
NCA_EXPORT int nca_abi(void);
