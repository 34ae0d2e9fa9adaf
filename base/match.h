// Several lambdas as one visitor: std::visit(Match{f, g}, variant).
#pragma once

namespace troupe {

template <typename... F>
struct Match : F... {
  using F::operator()...;
};
template <typename... F>
Match(F...) -> Match<F...>;

}  // namespace troupe
