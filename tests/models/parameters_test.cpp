#include "models/parameters.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "models/read.h"

namespace troupe::models {
namespace {

std::vector<Model> shipped() {
  std::vector<Model> models;
  const std::filesystem::path folder = TROUPE_SOURCE_DIR "/models";
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    auto model = read_model(file.path().string());
    EXPECT_TRUE(model) << file.path();
    if (model) models.push_back(*std::move(model));
  }
  return models;
}

ParameterCount count_of(const std::vector<Parameter>& list) {
  ParameterCount count;
  for (const Parameter& p : list) {
    (p.cut == Cut::none    ? count.repeated
     : p.cut == Cut::along ? count.split
                           : count.key_value) += p.elements();
  }
  return count;
}

TEST(ParameterList, SumsToTheCountsOfEveryShippedModel) {
  const auto models = shipped();
  ASSERT_GT(models.size(), 20);
  for (const Model& m : models) {
    for (const int layer : {0, m.layers - 1}) {
      const ParameterCount listed = count_of(layer_parameter_list(m, layer));
      const ParameterCount counted = layer_parameters(m, layer_kind(m, layer));
      EXPECT_EQ(listed.split, counted.split) << m.name << " layer " << layer;
      EXPECT_EQ(listed.repeated, counted.repeated) << m.name;
      EXPECT_EQ(listed.key_value, counted.key_value) << m.name;
    }
    EXPECT_EQ(count_of(embedding_parameter_list(m)).repeated,
              embedding_parameters(m).repeated)
        << m.name;
    EXPECT_EQ(count_of(head_parameter_list(m)).split, head_parameters(m).split)
        << m.name;
    EXPECT_EQ(count_of(parameter_list(m)).total(), parameters(m)) << m.name;
  }
}

TEST(ParameterList, NamesAreUniqueAndCutsAreDimensions) {
  for (const Model& m : shipped()) {
    std::set<std::string> names;
    for (const Parameter& p : parameter_list(m)) {
      EXPECT_TRUE(names.insert(p.name).second) << p.name;
      ASSERT_LT(static_cast<std::size_t>(p.dimension), p.shape.size());
    }
  }
}

}  // namespace
}  // namespace troupe::models
