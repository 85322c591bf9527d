// Errors that reach Python as qcore.ArgumentError and qcore.ArgumentTypeError.
#pragma once

#include <stdexcept>
#include <string>

namespace qcore {

// The message, whole: Python gets it as a C string, which a zero byte of a name in it would end.
inline std::string without_zero_bytes(const std::string& message) {
  std::string whole;
  for (const char each : message) {
    each ? whole += each : whole += "\\0";
  }
  return whole;
}

struct ArgumentError : std::invalid_argument {
  explicit ArgumentError(const std::string& message)
      : std::invalid_argument(without_zero_bytes(message)) {}
};

struct ArgumentTypeError : std::invalid_argument {
  explicit ArgumentTypeError(const std::string& message)
      : std::invalid_argument(without_zero_bytes(message)) {}
};

}  // namespace qcore
