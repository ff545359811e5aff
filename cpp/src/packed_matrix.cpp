// SPDX-License-Identifier: Apache-2.0
#include "packed_matrix.hpp"

#include <algorithm>

namespace wavefix {

template <class T>
void PackedMatrix<T>::reserve(std::size_t rows, std::size_t depth) {
  data_.setZero(static_cast<Eigen::Index>((rows + block_rows - 1) / block_rows * block_rows * depth));
}

template <class T>
template <int Columns>
void PackedMatrix<T>::multiply_block(std::size_t block, const T* columns, std::size_t column_stride, T* out,
                                     std::size_t out_stride, std::size_t split, std::size_t gap) const {
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  using Eigen::internal::pload, Eigen::internal::pmadd, Eigen::internal::pset1, Eigen::internal::pstoreu;
  Packet sum[Columns][2];
  for (auto& pair : sum) pair[0] = pair[1] = pset1<Packet>(T(0));
  const T* lane = data_.data() + block * depth_ * block_rows;
  const auto accumulate = [&](const T* column, std::size_t levels) {
    for (std::size_t level = 0; level < levels; ++level, lane += block_rows, ++column) {
      const Packet low = pload<Packet>(lane), high = pload<Packet>(lane + packet);
      for (int c = 0; c < Columns; ++c) {
        const Packet value = pset1<Packet>(column[static_cast<std::size_t>(c) * column_stride]);
        sum[c][0] = pmadd(low, value, sum[c][0]);
        sum[c][1] = pmadd(high, value, sum[c][1]);
      }
    }
  };
  accumulate(columns, split);
  accumulate(columns + split + gap, depth_ - split);
  const std::size_t row = block * block_rows, valid = std::min(block_rows, rows_ - row);
  for (int c = 0; c < Columns; ++c) {
    T* target = out + static_cast<std::size_t>(c) * out_stride + row;
    if (valid == block_rows) {
      pstoreu(target, sum[c][0]);
      pstoreu(target + packet, sum[c][1]);
    } else {
      T tail[block_rows];
      pstoreu(tail, sum[c][0]);
      pstoreu(tail + packet, sum[c][1]);
      std::copy_n(tail, valid, target);
    }
  }
}

template <class T>
void PackedMatrix<T>::multiply(const T* columns, std::size_t count, std::size_t column_stride, T* out,
                               std::size_t out_stride, std::size_t split, std::size_t gap) const {
  for (std::size_t block = 0; block < blocks(); ++block) {
    std::size_t c = 0;
    for (; c + 4 <= count; c += 4) {
      multiply_block<4>(block, columns + c * column_stride, column_stride, out + c * out_stride, out_stride, split, gap);
    }
    const T* rest = columns + c * column_stride;
    T* target = out + c * out_stride;
    if (count - c == 3) multiply_block<3>(block, rest, column_stride, target, out_stride, split, gap);
    if (count - c == 2) multiply_block<2>(block, rest, column_stride, target, out_stride, split, gap);
    if (count - c == 1) multiply_block<1>(block, rest, column_stride, target, out_stride, split, gap);
  }
}

template class PackedMatrix<float>;
template class PackedMatrix<double>;

}  // namespace wavefix
