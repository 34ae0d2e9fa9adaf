// Layouts of results from layouts of operands: what every device computes
// from what it holds, without moving anything.
#pragma once

#include <span>

#include "base/result.h"
#include "strategy/annotation.h"

namespace troupe::strategy {

/// C(m, n) = A(m, k) B(k, n).
///
/// Model:  devices that cut m cut C's rows, those that cut n its columns,
///         those that cut k (both operands alike) hold summands; a summand
///         of one operand meets the other operand whole.
/// Errors: input, naming the axis of devices where the operands disagree.
Result<Annotation> deduce_product(const Annotation& a, const Annotation& b);

/// An operator on matching elements. A linear one (sums, scaling) lets
/// summands through; others need the whole value.
///
/// Errors: input when layouts differ, or summands meet a non-linear one.
Result<Annotation> deduce_pointwise(std::span<const Annotation> operands,
                                    bool linear);

/// The sum over a dimension, which disappears: its cuts become summands.
Result<Annotation> deduce_sum(const Annotation& a, int dimension);

/// The transpose of a matrix.
Annotation deduce_transpose(const Annotation& a);

/// Rows `ids` (n) of a table (rows, columns): tokens outside of a device's
/// rows give 0, so cut rows make summands.
Result<Annotation> deduce_lookup(const Annotation& ids,
                                 const Annotation& table);

/// Cross-entropy over logits (n, classes) whose classes may be cut: the
/// exchange of row statistics is the operator's own, so the loss (n) is whole.
Result<Annotation> deduce_cross_entropy(const Annotation& logits);

/// The same elements in another shape. A cut dimension must keep its place:
/// what is before it holds as many elements as before, and its size in the
/// new shape a multiple of its parts.
///
/// Errors: input for a cut dimension that no new dimension begins with.
Result<Annotation> deduce_reshape(const Annotation& a,
                                  std::span<const std::int64_t> from,
                                  std::span<const std::int64_t> to);

/// A part of a dimension; only one that no device cuts can be sliced in place.
Result<Annotation> deduce_slice(const Annotation& a, int dimension);

}  // namespace troupe::strategy
