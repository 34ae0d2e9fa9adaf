#include "tests/kernels/cuda_on_host/matrix.h"

#include <cstring>

#include "tests/kernels/cuda_on_host/bfloat.h"

namespace troupe::kernels::cuda {
namespace {

using on_host::Lanes;

constexpr std::uint32_t kAll = 0xFFFFFFFFU;

struct Operands {
  float c[4];
  std::uint32_t a[4];
  std::uint32_t b[2];
};
static_assert(sizeof(Operands) <= Lanes::kBytes);

float half_of(std::uint32_t pair, int which) {
  return __bfloat162float(
      {static_cast<std::uint16_t>(which == 0 ? pair & 0xFFFFU : pair >> 16)});
}

// Lane l holds, with g = l / 4 and t = l % 4:
//   a[i]: row g + 8 (i % 2), columns 2t + 8 (i / 2) and the next
//   b[i]: column g, rows 2t + 8 i and the next
//   c[i]: row g + 8 (i / 2), column 2t + i % 2
void multiply(Lanes& lanes) {
  float a[16][16], b[16][8], c[16][8];
  const auto each = [&](auto&& visit) {
    for (int lane = 0; lane < 32; ++lane) {
      visit(static_cast<std::size_t>(lane), lane / 4, lane % 4);
    }
  };
  each([&](std::size_t lane, int g, int t) {
    Operands o;
    std::memcpy(&o, lanes.in[lane].data(), sizeof o);
    for (int i = 0; i < 4; ++i) {
      for (int h = 0; h < 2; ++h) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = half_of(o.a[i], h);
      }
      c[g + 8 * (i / 2)][2 * t + i % 2] = o.c[i];
    }
    for (int i = 0; i < 2; ++i) {
      for (int h = 0; h < 2; ++h) b[2 * t + 8 * i + h][g] = half_of(o.b[i], h);
    }
  });
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      for (int k = 0; k < 16; ++k) c[m][n] += a[m][k] * b[k][n];
    }
  }
  each([&](std::size_t lane, int g, int t) {
    float out[4];
    for (int i = 0; i < 4; ++i) out[i] = c[g + 8 * (i / 2)][2 * t + i % 2];
    std::memcpy(lanes.out[lane].data(), out, sizeof out);
  });
}

// Row r of matrix i is at the address that lane 8 i + r gave.
void load(Lanes& lanes, bool transposed) {
  std::uint16_t matrix[4][8][8];
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const void* row = nullptr;
    std::memcpy(&row, lanes.in[lane].data(), sizeof row);
    std::memcpy(matrix[lane / 8][lane % 8], row, 16);
  }
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const std::size_t g = lane / 4, t = lane % 4;
    std::uint32_t out[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const auto at = [&](std::size_t h) -> std::uint32_t {
        return transposed ? matrix[i][2 * t + h][g] : matrix[i][g][2 * t + h];
      };
      out[i] = at(0) | at(1) << 16;
    }
    std::memcpy(lanes.out[lane].data(), out, sizeof out);
  }
}

void check_row(const void* row) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
    on_host::stop("a matrix row is not aligned to 16 bytes");
  }
}

}  // namespace

void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4],
                 const std::uint32_t (&b)[2]) {
  Operands o;
  std::memcpy(o.c, c, sizeof o.c);
  std::memcpy(o.a, a, sizeof o.a);
  std::memcpy(o.b, b, sizeof o.b);
  on_host::together(kAll, &o, sizeof o, c, sizeof c, &multiply);
}

void load_matrix_x4(std::uint32_t (&r)[4], const void* row) {
  check_row(row);
  on_host::together(kAll, &row, sizeof row, r, sizeof r,
                    [](Lanes& lanes) { load(lanes, false); });
}

void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row) {
  check_row(row);
  on_host::together(kAll, &row, sizeof row, r, sizeof r,
                    [](Lanes& lanes) { load(lanes, true); });
}

}  // namespace troupe::kernels::cuda
