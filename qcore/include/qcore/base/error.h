// Errors that reach Python as qcore.ArgumentError and qcore.ArgumentTypeError.
#pragma once

#include <stdexcept>

namespace qcore {

struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

struct ArgumentTypeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace qcore
