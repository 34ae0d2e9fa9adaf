"""Tests the test: the check of function lengths sees every function and
fails on one line too many."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import functions  # noqa: E402

CHECK = pathlib.Path(__file__).with_name("functions_test.py")


def lengths(text):
    return {f.name: f.lines for f in functions.functions(text)}


def function_of(lines, name="f"):
    body = "\n".join("  step();" for _ in range(lines - 2))
    return f"void {name}() {{\n{body}\n}}\n"


def check(text):
    """The check's exit code and answer on a tree with one file."""
    with tempfile.TemporaryDirectory() as folder:
        room = pathlib.Path(folder) / "room"
        room.mkdir()
        (room / "CMakeLists.txt").write_text("")
        (room / "a.cpp").write_text(text)
        done = subprocess.run([sys.executable, CHECK, folder],
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


class Check(unittest.TestCase):
    SHORT = "".join(function_of(3, f"short_{i}") for i in range(120))

    def test_accepts_a_function_of_60_lines(self):
        code, said = check(self.SHORT + function_of(60, "most"))
        self.assertEqual(code, 0)
        self.assertIn("60 room/a.cpp:361 most", said)

    def test_fails_on_a_function_of_61_lines(self):
        code, said = check(self.SHORT + function_of(61, "too_long"))
        self.assertEqual(code, 1)
        self.assertIn("61 room/a.cpp:361 too_long", said)

    def test_fails_when_it_finds_next_to_nothing(self):
        self.assertEqual(check(function_of(3))[0], 1)

    def test_fails_where_braces_do_not_match(self):
        self.assertEqual(check(self.SHORT + "void f() {\n")[0], 1)


class Functions(unittest.TestCase):
    def test_counts_from_the_signature(self):
        self.assertEqual(lengths("int f(int a,\n      int b) {\n}\n"),
                         {"f": 3})

    def test_looks_into_namespaces_and_classes(self):
        text = """namespace a {
namespace {
class B : public C {
 public:
  explicit B(int x) : x_{x}, y_(x) {
    go();
  }
  int get() const { return x_; }

 private:
  int x_{};
};
}  // namespace
template <typename T, typename U = std::vector<T>>
struct D {
  auto operator<=>(const D&) const = default;
  void run() noexcept {
  }
};
int B::out() {
}
}  // namespace a
"""
        self.assertEqual(lengths(text),
                         {"B": 3, "get": 1, "run": 2, "B::out": 2})

    def test_leaves_out_what_is_no_function(self):
        text = """enum class E { a, b };
constexpr int kTable[] = {1, 2};
const S kS{.a = f(1)};
Result<int> g(int a, S s = {}, T t = T{});
"""
        self.assertEqual(lengths(text), {})

    def test_sees_a_default_of_braces_and_a_body(self):
        self.assertEqual(lengths("int g(S s = {}, T t = T{1}) {\n\n}\n"),
                         {"g": 3})

    def test_is_not_misled_by_braces_in_text_and_comments(self):
        text = """void f() {
  a('{', "}\\"}", 1'000'000);  // }
  /* } */ b(R"x(
}}}
)x");
#define OPEN {
}
"""
        self.assertEqual(lengths(text), {"f": 7})

    def test_counts_what_is_inside_as_part_of_it(self):
        text = """int f() {
  struct Local {
    int g() { return 1; }
  };
  const auto h = [](int x) {
    return x;
  };
  return h(1);
}
TEST(Room, HasAName) {
  EXPECT_TRUE(f());
}
"""
        self.assertEqual(lengths(text), {"f": 9, "TEST(Room,HasAName)": 3})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
