// e^x in doubles: the same operations in the same order for one number, for vectors of any width and in CUDA kernels,
// so that a token that is drawn from equal logits is the same on every device. For C++20: `.cu` files include it.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define LLORCH_EVERYWHERE __host__ __device__ __forceinline__
#else
#define LLORCH_EVERYWHERE [[gnu::always_inline]] inline
#endif

namespace llorch::vocabulary {

/// e^x for x <= 0, to 1e-12 of it; zero below -700. 2^n times a Taylor polynomial on [-ln 2 / 2, ln 2 / 2]. `Integers`:
/// as many 64-bit integers as `Doubles` has numbers.
template<class Doubles, class Integers>
LLORCH_EVERYWHERE Doubles exponential(Doubles x) {
  constexpr double kMagic = 0x1.8p52;  // added, it leaves a rounded number's integer in the low bits
  const Integers gone = x < -700.0;
  x = gone ? Doubles{} : x;
  const Doubles shifted = x * 0x1.71547652b82fep0 + kMagic, n = shifted - kMagic;
  const Doubles r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
  Doubles p = r * (1.0 / 3628800) + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  Integers bits, exponent;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits = bits + (exponent << 52);
  Doubles scaled;
  std::memcpy(&scaled, &bits, sizeof scaled);
  return gone ? Doubles{} : scaled;
}

}  // namespace llorch::vocabulary

#undef LLORCH_EVERYWHERE
