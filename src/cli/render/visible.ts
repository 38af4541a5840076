/**
 * Control characters, and those that turn the direction of writing, as `\u001b`: a name must not steer the terminal
 * that shows it. Line feeds and tabs stay.
 */
export const visible = (text: string): string =>
  text.replaceAll(/[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, escaped);

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
