// CUDA's vector types: the same sizes and alignments.
#pragma once

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define LLORCH_VECTORS(name, type)                                 \
  struct alignas(2 * sizeof(type)) name##2 {                       \
    type x, y;                                                     \
  };                                                               \
  struct alignas(4 * sizeof(type)) name##4 {                       \
    type x, y, z, w;                                               \
  };                                                               \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
LLORCH_VECTORS(float, float)
LLORCH_VECTORS(int, int)
LLORCH_VECTORS(uint, unsigned)
LLORCH_VECTORS(short, short)
LLORCH_VECTORS(ushort, unsigned short)
LLORCH_VECTORS(char, signed char)
LLORCH_VECTORS(uchar, unsigned char)
#undef LLORCH_VECTORS
