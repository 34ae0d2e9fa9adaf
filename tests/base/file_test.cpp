// Whole files: limits, atomic replacement, shipped names, hashes.
#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/json.h"

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "troupe-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(
        fs::directory_iterator(folder_), fs::directory_iterator{}));
  }
  fs::path folder_;
};

TEST_F(Files, AreReadBackAsWritten) {
  const std::string bytes("a\0b\xff\n", 5);
  ASSERT_TRUE(write_file(folder_ / "f", bytes));
  EXPECT_EQ(read_file(folder_ / "f"), bytes);
  ASSERT_TRUE(write_file(folder_ / "f", ""));
  EXPECT_EQ(read_file(folder_ / "f"), "");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, ThatCannotBeReadSayWhy) {
  const auto missing = read_file(folder_ / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().fault, Fault::input);
  EXPECT_THAT(missing.error().message, HasSubstr("No such file"));
  EXPECT_THAT(read_file(folder_).error().message, HasSubstr("is a folder"));
  ASSERT_TRUE(write_file(folder_ / "big", std::string(1001, 'x')));
  EXPECT_TRUE(read_file(folder_ / "big", Bytes{1001}));
  EXPECT_THAT(read_file(folder_ / "big", Bytes{1000}).error().message,
              HasSubstr("larger than"));
}

// Endless input is cut off at the limit instead of filling memory.
TEST_F(Files, WithoutAnEndAreRefused) {
  EXPECT_THAT(read_file("/dev/zero", Bytes{1 << 20}).error().message,
              HasSubstr("larger than 1 MiB"));
}

TEST_F(Files, AreNotWrittenIntoNowhere) {
  const auto bad = write_file(folder_ / "no/such/f", "x");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().fault, Fault::io);
  EXPECT_THAT(write_file(folder_, "x").error().message,
              HasSubstr("is a folder"));
  EXPECT_EQ(entries(), 0u);
}

// A file size limit stands in for a full disk: the old text stays and no
// temporary file is left.
TEST_F(Files, KeepTheOldTextWhenWritingFails) {
  ASSERT_TRUE(write_file(folder_ / "f", "old"));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto written = write_file(folder_ / "f", std::string(1 << 20, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().fault, Fault::io);
  EXPECT_EQ(read_file(folder_ / "f"), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, WrittenByManyThreadsAreNeverMixed) {
  const fs::path path = folder_ / "f";
  std::vector<std::thread> writers;
  for (int t = 0; t < 8; ++t) {
    writers.emplace_back([&path, t] {
      const std::string text(100'000, static_cast<char>('a' + t));
      for (int i = 0; i < 5; ++i) EXPECT_TRUE(write_file(path, text));
    });
  }
  for (std::thread& writer : writers) writer.join();
  const Result<std::string> text = read_file(path);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, std::string(100'000, (*text)[0]));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, BehindALinkAreReplacedAndTheLinkStays) {
  ASSERT_TRUE(write_file(folder_ / "real", "old"));
  fs::create_symlink("real", folder_ / "link");
  ASSERT_TRUE(write_file(folder_ / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "real"), "new");
}

// Replacing /dev/null by a file would break the machine.
TEST_F(Files, ThatAreDevicesOrPipesAreNotReplaced) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = read_file(pipe).value_or("error"); });
  EXPECT_TRUE(write_file(pipe, "through"));
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_TRUE(fs::is_fifo(pipe));
}

class Shipped : public Files {
 protected:
  void SetUp() override {
    Files::SetUp();
    fs::create_directories(folder_ / "fruits");
    ASSERT_TRUE(write_file(folder_ / "fruits/apple.json", "{}"));
    ::setenv("TROUPE_DATA", folder_.c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("TROUPE_DATA");
    Files::TearDown();
  }
};

TEST_F(Shipped, NamesBecomePaths) {
  EXPECT_EQ(find_shipped("apple", "fruits"), folder_ / "fruits/apple.json");
  EXPECT_EQ(find_shipped("./x", "fruits"), fs::path("./x"));
  EXPECT_EQ(find_shipped("x.json", "fruits"), fs::path("x.json"));
}

TEST_F(Shipped, NamesThatAreNotThereGetASuggestion) {
  const auto path = find_shipped("aple", "fruits");
  ASSERT_FALSE(path);
  EXPECT_THAT(path.error().message, HasSubstr("did you mean 'apple'?"));
  EXPECT_FALSE(find_shipped("", "fruits"));
  EXPECT_FALSE(find_shipped(std::string(100'000, 'x'), "fruits"));
  EXPECT_FALSE(find_shipped("apple", "no-such-folder"));
}

// XXH3-128 of nothing; source: the test vectors of the xxHash specification.
TEST(ContentHash, IsXxh3) {
  EXPECT_EQ(content_hash(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(content_hash("a"), content_hash("b"));
}

TEST(HomeRoot, FollowsTheEnvironment) {
  ::setenv("TROUPE_HOME", "/somewhere", 1);
  EXPECT_EQ(home_root(), fs::path("/somewhere"));
  ::unsetenv("TROUPE_HOME");
  EXPECT_EQ(home_root().filename(), ".troupe");
}

}  // namespace
}  // namespace troupe
