#include "qcore/isa/scalar.h"  // where it was before there were folders
