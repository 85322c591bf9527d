#include "qcore/isa/kernels.h"  // where it was before there were folders
