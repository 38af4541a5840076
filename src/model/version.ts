/** The version of this build, as `package.json` has it; a test holds the two together. */
export const toolVersion = '1.0.12';
