#include "qcore/isa/inline.h"  // where it was before there were folders
